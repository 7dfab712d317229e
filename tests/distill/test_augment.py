"""A drawn transform is a value: it does the same to any batch, and gradients flow through it."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation, Draw, each

FAMILIES = ["color", "crop", "cutout", "flip", "scale", "rotate"]
EIGHT = (8, 8)


def drawn(family: str, count: int, rng: torch.Generator, size: tuple[int, int] = EIGHT) -> Draw:
    return Augmentation([family], True).draw(count, size, rng)


def color(**strengths: float) -> Draw:
    plain = {"brightness": 0.0, "saturation": 1.0, "contrast": 1.0}
    return Draw("color", {k: torch.tensor([v]) for k, v in (plain | strengths).items()})


def numbered() -> Tensor:
    """One grey 8x8 image that holds 1 to 64 in reading order."""
    return torch.arange(1.0, 65).view(1, 1, 8, 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_draw_does_the_same_to_batches_of_any_size(rng, family):
    images = torch.randn(9, 3, 8, 8, generator=rng)
    for _ in range(4):
        draw = drawn(family, 1, rng)
        torch.testing.assert_close(draw(images)[:3], draw(images[:3]))
        torch.testing.assert_close(draw(images)[7:8], draw(images[7:8]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_per_image_treats_each_image_by_its_own_strengths(rng, family):
    images = torch.randn(6, 3, 8, 8, generator=rng)
    draw = drawn(family, 6, rng)
    alone = [
        Draw(family, {name: value[i : i + 1] for name, value in draw.values.items()})(
            images[i : i + 1]
        )
        for i in range(6)
    ]
    torch.testing.assert_close(draw(images), torch.cat(alone))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_draw_per_image_treats_equal_images_differently(rng, family):
    same = torch.randn(1, 3, 8, 8, generator=rng).expand(12, -1, -1, -1)
    transformed = drawn(family, 12, rng)(same)
    assert not torch.equal(transformed, transformed[:1].expand(12, -1, -1, -1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 9, 12)])
def test_shape_and_dtype_stay(rng, family, shape):
    images = torch.randn(4, *shape, generator=rng, dtype=torch.float64)
    for count in (1, 4):
        transformed = drawn(family, count, rng, shape[1:])(images)
        assert (transformed.shape, transformed.dtype) == (images.shape, torch.float64)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_given_are_left_alone(rng, family):
    images = torch.randn(4, 3, 8, 8, generator=rng)
    before = images.clone()
    drawn(family, 4, rng)(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [1, 2])
def test_every_family_has_the_gradient_of_finite_differences(rng, family, count):
    images = torch.randn(2, 2, 8, 8, generator=rng, dtype=torch.float64, requires_grad=True)
    draw = drawn(family, count, rng)
    assert torch.autograd.gradcheck(draw, (images,), fast_mode=True)
    (gradient,) = torch.autograd.grad(draw(images).sum(), images)
    assert gradient.count_nonzero() >= gradient.numel() // 2


def test_brightness_is_added():
    images = torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    expected = images + 0.25
    torch.testing.assert_close(color(brightness=0.25)(images), expected)


def test_saturation_stretches_a_pixel_around_its_grey():
    # the pixel (3, 0, 0) has grey 1: 1 + 2 * (3 - 1) = 5 and 1 + 2 * (0 - 1) = -1
    pixel = torch.tensor([3.0, 0.0, 0.0]).view(1, 3, 1, 1)
    assert color(saturation=2.0)(pixel).flatten().tolist() == [5.0, -1.0, -1.0]


def test_saturation_zero_leaves_each_pixel_its_own_grey():
    # greys 1 and 4
    pixels = torch.tensor([[3.0, 4.0], [0.0, 4.0], [0.0, 4.0]]).view(1, 3, 1, 2)
    assert color(saturation=0.0)(pixels).flatten().tolist() == [1.0, 4.0] * 3


def test_saturation_does_nothing_to_grey_images(rng):
    images = torch.randn(2, 1, 8, 8, generator=rng)
    torch.testing.assert_close(color(saturation=1.7)(images), images)


def test_contrast_stretches_an_image_around_its_level():
    # level (0 + 1 + 2 + 5) / 4 = 2 over pixels and channels: 2 + 1.5 * (x - 2)
    image = torch.tensor([0.0, 1.0, 2.0, 5.0]).view(1, 2, 1, 2)
    assert color(contrast=1.5)(image).flatten().tolist() == [-1.0, 0.5, 2.0, 6.5]


def test_contrast_keeps_every_image_at_its_own_level():
    images = torch.tensor([0.0, 2.0, 10.0, 14.0]).view(2, 1, 1, 2)
    # levels 1 and 12
    assert color(contrast=0.5)(images).flatten().tolist() == [0.5, 1.5, 11.0, 13.0]


def test_crop_shifts_and_fills_with_zeros():
    # out[r, c] = in[r + 1, c - 1]: the last row and the first column come from outside.
    draw = Draw("crop", {"down": torch.tensor([1]), "right": torch.tensor([-1])})
    expected = torch.zeros(8, 8)
    for row in range(7):
        for column in range(1, 8):
            expected[row, column] = 8 * (row + 1) + (column - 1) + 1
    assert torch.equal(draw(numbered())[0, 0], expected)


def test_crop_by_nothing_gives_the_image_back():
    draw = Draw("crop", {"down": torch.tensor([0]), "right": torch.tensor([0])})
    assert torch.equal(draw(numbered()), numbered())


def test_cutout_zeros_a_square_of_half_the_side():
    # side 4 around row 4, column 3: rows 2 to 5, columns 1 to 4
    draw = Draw("cutout", {"row": torch.tensor([4]), "column": torch.tensor([3])})
    expected = numbered()[0, 0].clone()
    expected[2:6, 1:5] = 0
    assert torch.equal(draw(numbered())[0, 0], expected)


def test_cutout_at_a_corner_is_clipped():
    # rows 6 to 9, of which 6 and 7 exist; columns -2 to 1, of which 0 and 1 exist
    draw = Draw("cutout", {"row": torch.tensor([8]), "column": torch.tensor([0])})
    expected = numbered()[0, 0].clone()
    expected[6:8, 0:2] = 0
    assert torch.equal(draw(numbered())[0, 0], expected)


def test_flip_mirrors_left_and_right():
    mirrored = Draw("flip", {"mirrored": torch.tensor([True])})(numbered())[0, 0]
    assert mirrored[0].tolist() == [8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    assert mirrored[:, 0].tolist() == [8.0, 16.0, 24.0, 32.0, 40.0, 48.0, 56.0, 64.0]


def test_scale_takes_pixels_from_as_many_times_further_out():
    # Factor 2 across: column j reads at 2 j - 3.5, halfway between 2 j - 4 and 2 j - 3.
    # Column 2 is (0 + 1) / 2, column 3 (2 + 3) / 2, ...; 0, 1, 6 and 7 lie outside.
    row = torch.arange(8.0).expand(1, 1, 8, 8)
    draw = Draw("scale", {"across": torch.tensor([2.0]), "down": torch.tensor([1.0])})
    expected = torch.tensor([0, 0, 0.5, 2.5, 4.5, 6.5, 0, 0])
    torch.testing.assert_close(draw(row)[0, 0], expected.expand(8, 8), atol=1e-5, rtol=0)
    turned = Draw("scale", {"across": torch.tensor([1.0]), "down": torch.tensor([2.0])})
    column = turned(row.transpose(2, 3))[0, 0]
    torch.testing.assert_close(column, expected.view(8, 1).expand(8, 8), atol=1e-5, rtol=0)


def test_a_quarter_turn_reads_the_mirrored_column():
    # cos 0, sin 1: the pixel at (x, y) reads at (-y, x), so out[i, j] = in[j, 7 - i].
    draw = Draw("rotate", {"angle": torch.tensor([math.pi / 2])})
    expected = numbered()[0, 0].T.flip(0)
    torch.testing.assert_close(draw(numbered())[0, 0], expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("family", "values"),
    [("scale", {"across": [1.0], "down": [1.0]}), ("rotate", {"angle": [0.0]})],
)
def test_scale_and_rotate_of_no_strength_give_the_image_back(rng, family, values):
    images = torch.randn(3, 3, 8, 9, generator=rng)
    draw = Draw(family, {name: torch.tensor(value) for name, value in values.items()})
    torch.testing.assert_close(draw(images), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    # Ends of the released code; sides 16 and 10: reach int(.125 side + .5) = 2 and 1, squares
    # of 8 and 5, whose centres are 0 to 16 (even) and 0 to 9 (odd).
    ("family", "name", "low", "high"),
    [
        ("color", "brightness", -0.5, 0.5),
        ("color", "saturation", 0.0, 2.0),
        ("color", "contrast", 0.5, 1.5),
        ("crop", "down", -2, 2),
        ("crop", "right", -1, 1),
        ("cutout", "row", 0, 16),
        ("cutout", "column", 0, 9),
        ("flip", "mirrored", 0, 1),
        ("scale", "across", 1 / 1.2, 1.2),
        ("scale", "down", 1 / 1.2, 1.2),
        ("rotate", "angle", -math.pi / 12, math.pi / 12),
    ],
)
def test_strengths_are_uniform_between_their_ends(rng, family, name, low, high):
    values = drawn(family, 20_000, rng, (16, 10)).values[name].double()
    margin = 0.001 * (high - low)
    assert low - 1e-6 <= values.min() <= low + margin
    assert high - margin <= values.max() <= high + 1e-6
    assert values.mean().item() == pytest.approx((low + high) / 2, abs=15 * margin)


@pytest.mark.parametrize(
    ("family", "one", "other"),
    [
        ("color", "brightness", "saturation"),
        ("color", "saturation", "contrast"),
        ("crop", "down", "right"),
        ("cutout", "row", "column"),
        ("scale", "across", "down"),
    ],
)
def test_strengths_of_a_family_are_independent(rng, family, one, other):
    values = drawn(family, 20_000, rng, (16, 10)).values
    pair = torch.stack([values[one].double(), values[other].double()])
    assert torch.corrcoef(pair)[0, 1].abs() < 0.03


def test_every_family_is_drawn_as_often(rng):
    augmentation = Augmentation(FAMILIES, True)
    seen = Counter(augmentation.draw(1, EIGHT, rng).family for _ in range(1200))
    assert sorted(seen) == sorted(FAMILIES)
    assert all(150 < count < 250 for count in seen.values())


def test_without_mirror_nothing_is_flipped(rng):
    augmentation = Augmentation(FAMILIES, False)
    seen = Counter(augmentation.draw(1, EIGHT, rng).family for _ in range(300))
    assert sorted(seen) == sorted(set(FAMILIES) - {"flip"})


@pytest.mark.parametrize("augmentation", [Augmentation([], True), Augmentation(["flip"], False)])
def test_no_family_changes_nothing(rng, augmentation):
    images = torch.randn(3, 3, 8, 8, generator=rng)
    for count in (1, 3):
        assert torch.equal(augmentation.draw(count, EIGHT, rng)(images), images)


def test_each_group_is_transformed_by_its_own_draw_to_the_bit(rng):
    draws = [Augmentation(FAMILIES, True).draw(1, EIGHT, rng) for _ in range(20)]
    groups = torch.randint(20, (60,), generator=rng)
    images, weights = torch.randn(2, 60, 3, 8, 8, generator=rng)
    ours, alone = images.clone().requires_grad_(), images.clone().requires_grad_()
    found = each(draws, groups, ours)
    wanted = torch.cat([draws[g](alone[n : n + 1]) for n, g in enumerate(groups.tolist())])
    assert found.equal(wanted)
    found.backward(weights)
    wanted.backward(weights)
    assert ours.grad.equal(alone.grad)


def test_an_unknown_family_is_refused_with_the_known_ones():
    known = r"color, crop, cutout, flip, .*rotate, scale"
    with pytest.raises(ValueError, match=rf"^unknown augmentation family 'blur'; known: {known}$"):
        Augmentation(["crop", "blur"], True)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_generators_give_equal_draws(family):
    draws = []
    for _ in range(2):
        torch.rand(3)  # the global generator stands elsewhere the second time
        draws.append(drawn(family, 6, torch.Generator().manual_seed(5)))
    assert draws[0].family == draws[1].family
    for name, value in draws[0].values.items():
        assert torch.equal(value, draws[1].values[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_drawing_leaves_the_global_generator_as_it_was(rng, family):
    before = torch.get_rng_state()
    drawn(family, 6, rng)(torch.zeros(6, 3, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("families", [None, "color"], ids=repr)
def test_families_that_are_no_list_are_refused(families):
    message = rf"^augmentation\.families must be a list, got {families!r}$"
    with pytest.raises(TypeError, match=message):
        Augmentation(families, True)
