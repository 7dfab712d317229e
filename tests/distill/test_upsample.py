"""Rows at a fraction of the resolution come to full size by bilinear interpolation."""

import math

import pytest
import torch
from torch import Tensor

from distill.images import LabelledImages
from distill.parameterisations.base import Code, Parameterisation, Wanted
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample

SHAPES = [((1, 8, 8), 2), ((3, 9, 12), 2), ((1, 28, 28), 3), ((2, 8, 16), 4)]
sizes = pytest.mark.parametrize(("shape", "factor"), SHAPES, ids=str)


def decoded(rows: Tensor, shape: tuple[int, ...], factor: int = 2) -> Tensor:
    index = torch.zeros(len(rows), dtype=torch.int64)
    return Upsample(factor).decode({}, rows, Wanted(shape, index, index))


def encoded(images: Tensor, factor: int) -> Tensor:
    return Upsample(factor).encode({}, images, torch.zeros(len(images), dtype=torch.int64))


def naive_line(line: Tensor, size: int) -> Tensor:
    """One axis: pixel centres are scaled, and what lies outside takes the outermost value."""
    result = []
    for i in range(size):
        place = min(max((i + 0.5) * len(line) / size - 0.5, 0.0), len(line) - 1)
        low = math.floor(place)
        high = min(low + 1, len(line) - 1)
        result.append(line[low] * (1 - (place - low)) + line[high] * (place - low))
    return torch.stack(result)


def test_a_pixel_is_a_quarter_of_one_and_three_quarters_of_the_other_neighbour():
    # centres of 4 pixels over 2: -1/4 (outside), 1/4, 3/4, 5/4 (outside)
    row = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    assert decoded(row, (1, 1, 4)).flatten().tolist() == [0, 1, 3, 4]


@sizes
def test_decoding_agrees_with_a_loop_over_lines(rng, shape, factor):
    small = Upsample(factor).row_shape(shape)
    rows = torch.randn(2, *small, generator=rng, dtype=torch.float64)
    expected = torch.stack(
        [
            torch.stack(
                [
                    naive_line(torch.stack([naive_line(r, shape[2]) for r in channel]), shape[1])
                    for channel in row
                ]
            )
            for row in rows
        ]
    )
    torch.testing.assert_close(decoded(rows, shape, factor), expected, rtol=1e-12, atol=1e-12)


@sizes
def test_a_row_has_the_sides_divided_and_rounded_up(shape, factor):
    expected = (shape[0], math.ceil(shape[1] / factor), math.ceil(shape[2] / factor))
    assert Upsample(factor).row_shape(shape) == expected


def test_a_shrunk_pixel_is_the_mean_of_those_that_it_stands_for():
    # 4x4 pixels 0..15 by 2: (0 + 1 + 4 + 5) / 4, (2 + 3 + 6 + 7) / 4, and 8 more below
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert encoded(images, 2).flatten().tolist() == [2.5, 4.5, 10.5, 12.5]


@sizes
def test_even_images_are_encoded_and_decoded_exactly(shape, factor):
    images = torch.full((2, *shape), 0.75, dtype=torch.float64)
    rows = encoded(images, factor)
    assert rows.shape == (2, *Upsample(factor).row_shape(shape))
    torch.testing.assert_close(decoded(rows, shape, factor), images, rtol=1e-15, atol=0)


@pytest.mark.parametrize("factor", [2, 4])
def test_every_number_of_a_row_has_the_weight_of_the_pixels_that_it_stands_for(factor):
    rows = torch.zeros(1, 1, 8 // factor, 8 // factor, dtype=torch.float64, requires_grad=True)
    decoded(rows, (1, 8, 8), factor).sum().backward()
    torch.testing.assert_close(rows.grad, torch.full_like(rows, factor**2), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    # 32 / 2 = 16: 4 rows of 3 * 16 * 16 an image; 9 -> 5: 2 * 81 // 25 rows of two images
    ("shape", "ipc", "rows"),
    [((3, 32, 32), 1, 4), ((3, 32, 32), 10, 40), ((1, 9, 9), 2, 6)],
    ids=str,
)
def test_an_image_pays_for_about_four_of_half_resolution(shape, ipc, rows):
    parameterisation = Parameterisation(Pixels(True), [Upsample(2)])
    counts = torch.full((10,), ipc)
    assert (
        parameterisation.rows(Code(parameterisation, {}, counts, shape), 0).tolist() == [rows] * 10
    )


def test_it_has_no_numbers_and_one_branch(rng):
    real = LabelledImages(torch.zeros(1, 1, 8, 8), torch.tensor([0]), 1)
    assert Upsample(2).begin(real, (1, 8, 8), 0) == {}
    assert Upsample(2).branches == 1
    assert Upsample(2).learned


def test_a_factor_below_two_is_refused():
    with pytest.raises(ValueError, match=r"^parameterisation factor must be >= 2, got 1$"):
        Upsample(1)


def test_a_factor_that_is_not_whole_is_refused():
    with pytest.raises(TypeError, match=r"factor must be a whole number, got 2\.0$"):
        Upsample(2.0)
