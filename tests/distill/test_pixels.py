"""Free pixels are the rows themselves, and stay in range where asked."""

import pytest
import torch

from distill.images import Normalisation
from distill.parameterisations.base import Budget
from distill.parameterisations.pixels import Pixels

# black is (0 - .5) / .25 = -2, white is (1 - .5) / .25 = 2
HALF = Normalisation([0.5], [0.25])


@pytest.mark.parametrize("clip", [True, False])
def test_what_begins_is_recalled_in_the_order_asked(rng, clip):
    rows = torch.randn(3, 1, 8, 8, generator=rng)
    parameters = Pixels(clip).begin(rows, rng)
    index = torch.tensor([2, 0, 2])
    assert torch.equal(Pixels(clip).recall(parameters, index), rows[index])


def test_parameters_do_not_share_memory_with_the_rows(rng):
    rows = torch.randn(3, 1, 8, 8, generator=rng)
    before = rows.clone()
    Pixels(False).begin(rows, rng)["pixels"].zero_()
    assert torch.equal(rows, before)


def test_beginning_draws_no_random_numbers(rng):
    before = rng.get_state()
    Pixels(False).begin(torch.zeros(3, 1, 8, 8), rng)
    assert torch.equal(rng.get_state(), before)


def test_every_number_is_one_pixel(rng):
    parameters = Pixels(False).begin(torch.randn(3, 1, 8, 8, generator=rng), rng)
    assert {name: p.numel() for name, p in parameters.items()} == {"pixels": 192}


@pytest.mark.parametrize(
    ("numbers", "counts", "rows"),
    [
        # rows of 2 * 3 * 4 = 24 numbers, 5 images: 120 are just enough, 119 are not
        (120, [3, 0, 2], [3, 0, 2]),
        (119, [3, 0, 2], [2, 0, 1]),
        # 3 * 480 // 120 and 2 * 480 // 120
        (480, [3, 0, 2], [12, 0, 8]),
        (0, [3, 0, 2], [0, 0, 0]),
    ],
)
def test_rows_are_shared_out_by_counts(numbers, counts, rows):
    assert Pixels(False).rows(Budget(numbers, torch.tensor(counts), 0), (2, 3, 4)).tolist() == rows


def test_numbers_below_zero_pay_for_no_row():
    assert (Pixels(False).rows(Budget(-1, torch.tensor([1, 2]), 0), (1, 8, 8)) < 1).all()


def test_gradient_of_a_pixel_is_that_of_its_parameter(rng):
    parameters = {"pixels": torch.randn(3, 1, 8, 8, generator=rng).requires_grad_()}
    weight = torch.randn(2, 1, 8, 8, generator=rng)
    (Pixels(True).recall(parameters, torch.tensor([2, 0])) * weight).sum().backward()
    expected = torch.stack([weight[1], torch.zeros(1, 8, 8), weight[0]])
    assert torch.equal(parameters["pixels"].grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_clipping_moves_pixels_into_range_in_place(dtype):
    pixels = torch.tensor([-9.0, -1.0, 2.5], dtype=dtype).view(1, 1, 1, 3).requires_grad_()
    Pixels(True).project_({"pixels": pixels}, HALF)
    assert pixels.flatten().tolist() == [-2.0, -1.0, 2.0]
    assert pixels.is_leaf
    assert pixels.requires_grad


@pytest.mark.parametrize("shape", [(1,), (16,), (32, 2, 2)], ids=str)
def test_rows_that_are_no_images_are_not_clipped(shape):
    rows = {"pixels": torch.zeros(3, *shape)}
    Pixels(False).project_(rows, HALF)
    message = r"^parameterisation\.source\.clip must be false where .* rows of shape \("
    with pytest.raises(ValueError, match=message):
        Pixels(True).project_(rows, HALF)


def test_without_clipping_pixels_stay_where_they_are():
    pixels = torch.tensor([-9.0, -1.0, 2.5]).view(1, 1, 1, 3)
    Pixels(False).project_({"pixels": pixels}, HALF)
    assert pixels.flatten().tolist() == [-9.0, -1.0, 2.5]


def test_pixels_are_plain():
    assert Pixels(True).is_plain
