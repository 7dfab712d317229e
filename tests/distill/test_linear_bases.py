"""Linear bases recall mixtures, at the numbers that RTP counts."""

import pytest
import torch

from distill.images import Normalisation
from distill.parameterisations.base import Budget, Code, Parameterisation
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.upsample import Upsample


def low_rank_rows(rng: torch.Generator, count: int, rank: int) -> torch.Tensor:
    """Rows of 2 * 4 * 4 numbers within ``rank`` dimensions."""
    mixing = torch.randn(count, rank, generator=rng, dtype=torch.float64)
    mixed = mixing @ torch.randn(rank, 32, generator=rng, dtype=torch.float64)
    return mixed.unflatten(1, (2, 4, 4))


def all_of(source: LinearBases, parameters, count: int) -> torch.Tensor:
    return source.recall(parameters, torch.arange(count))


@pytest.mark.parametrize(
    # CIFAR-10, 1 image a class: 10 * 3,072 = 30,720 numbers, 16 * 768 = 12,288 of them bases;
    # 18,432 // (10 * 16) = 115, the number in RTP
    ("most", "rows"),
    [(1000, 115), (115, 115), (114, 114), (16, 16)],
)
def test_rows_on_cifar10_are_those_of_the_paper(most, rows):
    parameterisation = Parameterisation(LinearBases(16, most), [Upsample(2)])
    counts = torch.ones(10, dtype=torch.int64)
    assert (
        parameterisation.rows(Code(parameterisation, {}, counts, (3, 32, 32)), 0).tolist()
        == [rows] * 10
    )


@pytest.mark.parametrize(
    ("numbers", "most", "rows"),
    [
        # rows of 8 numbers, 2 bases: 66 - 16 = 50; 3 * 50 // (5 * 2) and 2 * 50 // (5 * 2)
        (66, 99, [15, 0, 10]),
        (65, 99, [14, 0, 9]),
        # no more than 4 rows for each of 3 and 2
        (66, 4, [12, 0, 8]),
        # the bases alone take 16
        (16, 99, [0, 0, 0]),
        (3, 99, [0, 0, 0]),
    ],
)
def test_rows_are_what_the_bases_leave_shared_out_by_counts(numbers, most, rows):
    counts = torch.tensor([3, 0, 2])
    assert LinearBases(2, most).rows(Budget(numbers, counts, 0), (2, 2, 2)).tolist() == rows


def test_numbers_are_the_bases_and_one_a_base_and_row(rng):
    # 3 bases of 32, and 7 * 3 coefficients
    parameters = LinearBases(3, 1).begin(low_rank_rows(rng, 7, 7), rng)
    assert {name: p.numel() for name, p in parameters.items()} == {"bases": 96, "coefficients": 21}


def test_a_row_is_the_sum_of_its_coefficients_times_the_bases(rng):
    parameters = {
        "bases": torch.randn(3, 2, 4, 4, generator=rng, dtype=torch.float64),
        "coefficients": torch.randn(5, 3, generator=rng, dtype=torch.float64),
    }
    index = [4, 0, 4]
    expected = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    for place, row in enumerate(index):
        for k in range(3):
            expected[place] += parameters["coefficients"][row, k] * parameters["bases"][k]
    ours = LinearBases(3, 1).recall(parameters, torch.tensor(index))
    torch.testing.assert_close(ours, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_rows_of_at_most_as_many_dimensions_as_bases_are_recalled_exactly(rng, rank):
    rows, source = low_rank_rows(rng, 9, rank), LinearBases(4, 1)
    ours = all_of(source, source.begin(rows, rng), 9)
    torch.testing.assert_close(ours, rows, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_rows_than_bases_are_recalled_exactly(rng, count):
    rows, source = low_rank_rows(rng, count, count), LinearBases(5, 1)
    ours = all_of(source, source.begin(rows, rng), count)
    torch.testing.assert_close(ours, rows, rtol=0, atol=1e-12)


def test_bases_without_a_row_are_noise_that_coefficients_learn_through(rng):
    rows, source = low_rank_rows(rng, 2, 2), LinearBases(5, 1)
    parameters = source.begin(rows, rng)
    coefficients = parameters["coefficients"].requires_grad_()
    all_of(source, parameters, 2).sum().backward()
    assert (coefficients.grad[:, 2:] != 0).all()
    # 32 numbers of variance 1 / 32: a length of about 1
    lengths = parameters["bases"][2:].flatten(1).norm(dim=1)
    assert ((lengths > 0.5) & (lengths < 1.5)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rank", [0, 3])
def test_bases_beyond_the_rank_of_many_rows_are_noise(rng, dtype, rank):
    rows, source = low_rank_rows(rng, 24, rank).to(dtype), LinearBases(16, 1)
    parameters = source.begin(rows, rng)
    lengths = parameters["bases"][rank:].flatten(1).norm(dim=1)
    assert ((lengths > 0.5) & (lengths < 1.5)).all()
    assert not parameters["coefficients"][:, rank:].any()
    atol = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(all_of(source, parameters, 24), rows, rtol=0, atol=atol)


def test_the_bases_are_the_best_in_the_least_squares(rng):
    # Eckart and Young: what 3 dimensions leave are the squares of the other singular values
    rows, source = low_rank_rows(rng, 8, 8), LinearBases(3, 1)
    ours = all_of(source, source.begin(rows, rng), 8)
    left = torch.linalg.svdvals(rows.flatten(1))[3:].square().sum()
    torch.testing.assert_close((ours - rows).square().sum(), left, rtol=1e-12, atol=0)


def test_a_base_is_as_long_as_its_coefficients_are_large(rng):
    # so that neither side's steps are much larger than the other's
    parameters = LinearBases(3, 1).begin(low_rank_rows(rng, 8, 8), rng)
    lengths = parameters["bases"].flatten(1).norm(dim=1)
    sizes = parameters["coefficients"].square().mean(0).sqrt()
    torch.testing.assert_close(lengths, sizes, rtol=1e-12, atol=0)


def test_rows_of_nothing_but_zeros_are_recalled():
    rows, source = torch.zeros(3, 2, 4, 4), LinearBases(2, 1)
    parameters = source.begin(rows, torch.Generator().manual_seed(0))
    assert torch.equal(all_of(source, parameters, 3), rows)


def test_the_noise_is_that_of_the_generator(rng):
    rows = low_rank_rows(rng, 2, 2)
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    one, same, other = (LinearBases(4, 1).begin(rows, seed)["bases"] for seed in seeds)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_projecting_leaves_everything_as_it_is(rng):
    source = LinearBases(2, 1)
    parameters = source.begin(low_rank_rows(rng, 3, 3) * 100, rng)
    before = {name: value.clone() for name, value in parameters.items()}
    source.project_(parameters, Normalisation([0.5, 0.5], [0.25, 0.25]))
    assert all(torch.equal(parameters[name], before[name]) for name in before)


@pytest.mark.parametrize(("bases", "most", "name"), [(0, 1, "bases"), (1, 0, "most")])
def test_less_than_one_is_refused(bases, most, name):
    with pytest.raises(
        ValueError, match=rf"^parameterisation\.source\.{name} must be >= 1, got 0$"
    ):
        LinearBases(bases, most)
