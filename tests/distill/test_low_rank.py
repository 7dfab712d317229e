"""Low-rank rows are products of thin matrices, the nearest ones at the start."""

import pytest
import torch

from distill.images import Normalisation
from distill.parameterisations.base import Budget
from distill.parameterisations.low_rank import LowRank


def begun(rows: torch.Tensor, rank: int) -> tuple[LowRank, dict[str, torch.Tensor]]:
    source = LowRank(rank)
    return source, source.begin(rows, torch.Generator())


def recalled(rows: torch.Tensor, rank: int) -> torch.Tensor:
    source, parameters = begun(rows, rank)
    return source.recall(parameters, torch.arange(len(rows)))


@pytest.fixture
def rows(rng) -> torch.Tensor:
    """Two rows of three channels of 5x7, of full rank."""
    return torch.randn(2, 3, 5, 7, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize(
    ("numbers", "counts", "rank", "shape", "expected"),
    [
        # 3 * 4 * (32 + 32) = 768 numbers a row instead of 3,072: four rows an image
        (10 * 3_072, [1] * 10, 4, (3, 32, 32), [4] * 10),
        # 2 * 1 * (3 + 4) = 14 a row: 3 * 140 // 70 and 2 * 140 // 70; one number less
        (140, [3, 0, 2], 1, (2, 3, 4), [6, 0, 4]),
        (139, [3, 0, 2], 1, (2, 3, 4), [5, 0, 3]),
        # twice the rank costs twice as much: 3 * 140 // 140
        (140, [3, 0, 2], 2, (2, 3, 4), [3, 0, 2]),
    ],
)
def test_a_row_costs_the_rank_times_both_sides_a_channel(numbers, counts, rank, shape, expected):
    assert LowRank(rank).rows(Budget(numbers, torch.tensor(counts), 0), shape).tolist() == expected


def test_numbers_are_two_thin_matrices_a_channel(rows):
    # 2 * 3 * 5 * 2 and 2 * 3 * 2 * 7
    _, parameters = begun(rows, 2)
    assert {name: p.numel() for name, p in parameters.items()} == {"left": 60, "right": 84}


def test_a_channel_is_the_sum_of_outer_products(rng):
    parameters = {
        "left": torch.randn(4, 2, 5, 3, generator=rng, dtype=torch.float64),
        "right": torch.randn(4, 2, 3, 7, generator=rng, dtype=torch.float64),
    }
    index = [3, 0, 3]
    expected = torch.zeros(3, 2, 5, 7, dtype=torch.float64)
    for place, row in enumerate(index):
        for channel in range(2):
            for r in range(3):
                left, right = (parameters[side][row, channel] for side in ("left", "right"))
                expected[place, channel] += torch.outer(left[:, r], right[r])
    ours = LowRank(3).recall(parameters, torch.tensor(index))
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


def test_the_start_is_the_nearest_of_its_rank(rows):
    # Eckart and Young: what rank 2 leaves are the squares of the other singular values
    left = torch.linalg.svdvals(rows)[..., 2:].square().sum(-1)
    gap = (recalled(rows, 2) - rows).square().sum((-2, -1))
    torch.testing.assert_close(gap, left, rtol=1e-12, atol=0)


@pytest.mark.parametrize("rank", [2, 3])
def test_rows_of_at_most_that_rank_are_recalled_exactly(rng, rank):
    left = torch.randn(2, 3, 5, 2, generator=rng, dtype=torch.float64)
    right = torch.randn(2, 3, 2, 7, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(recalled(left @ right, rank), left @ right, rtol=0, atol=1e-12)


def test_the_rank_of_the_shorter_side_recalls_everything(rows):
    torch.testing.assert_close(recalled(rows, 5), rows, rtol=0, atol=1e-12)


def test_both_sides_share_the_singular_values(rows):
    _, parameters = begun(rows, 2)
    values = torch.linalg.svdvals(rows)[..., :2]
    torch.testing.assert_close(parameters["left"].square().sum(-2), values, rtol=1e-12, atol=0)
    torch.testing.assert_close(parameters["right"].square().sum(-1), values, rtol=1e-12, atol=0)


def test_projecting_leaves_everything_as_it_is(rows):
    source, parameters = begun(rows * 100, 2)
    before = {name: value.clone() for name, value in parameters.items()}
    source.project_(parameters, Normalisation([0.5] * 3, [0.25] * 3))
    assert all(torch.equal(parameters[name], before[name]) for name in before)


def test_a_rank_above_a_side_is_refused(rows):
    message = r"^parameterisation\.source\.rank must be <= 5 for rows of 5x7, got 6$"
    with pytest.raises(ValueError, match=message):
        begun(rows, 6)


def test_a_rank_above_a_side_is_refused_before_anything_is_paid():
    with pytest.raises(ValueError, match=r"rank must be <= 5 for rows of 5x7, got 6$"):
        LowRank(6).rows(Budget(1, torch.tensor([1]), 0), (3, 5, 7))


def test_a_rank_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^parameterisation\.source\.rank must be >= 1, got 0$"):
        LowRank(0)
