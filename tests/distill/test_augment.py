"""A draw is one transform, for any batch; gradients flow through it."""

import pytest
import torch

from distill.augment import FAMILIES, Augmentation, Draw

EVERY = [name for name in FAMILIES if name != "none"]


def ramp() -> torch.Tensor:
    return torch.arange(64.0).view(1, 1, 8, 8)


@pytest.mark.parametrize("family", EVERY)
def test_a_siamese_draw_treats_an_image_alike_in_any_batch(family, rng):
    draw = Augmentation([family], mirror=True).draw(1, (8, 8), rng)
    images = torch.randn(5, 3, 8, 8, generator=rng)
    torch.testing.assert_close(draw(images)[:2], draw(images[:2]))


@pytest.mark.parametrize("family", EVERY)
def test_a_draw_for_each_image_differs_within_the_batch(family, rng):
    draw = Augmentation([family], mirror=True).draw(16, (8, 8), rng)
    image = torch.randn(1, 3, 8, 8, generator=rng)
    out = draw(image.expand(16, 3, 8, 8))
    assert any(not out[0].equal(other) for other in out[1:])


@pytest.mark.parametrize("family", EVERY)
def test_gradients_flow_through(family, rng):
    images = torch.randn(2, 3, 8, 8, generator=rng, requires_grad=True)
    Augmentation([family], mirror=True).draw(1, (8, 8), rng)(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_crop_shifts_and_fills_with_zero():
    moved = Draw("crop", {"down": torch.tensor([1]), "right": torch.tensor([-1])})(ramp())
    # row r shows row r + 1, column c shows column c - 1
    assert moved[0, 0, 0, 1:].tolist() == ramp()[0, 0, 1, :-1].tolist()
    assert moved[0, 0, 7].abs().sum() == 0
    assert moved[0, 0, :, 0].abs().sum() == 0


def test_cutout_zeroes_a_square_of_half_the_side():
    out = Draw("cutout", {"row": torch.tensor([4]), "column": torch.tensor([4])})(ramp() + 1)
    hole = out[0, 0] == 0
    assert hole.sum() == 16
    assert hole[2:6, 2:6].all()


def test_flip_mirrors():
    out = Draw("flip", {"mirrored": torch.tensor([True])})(ramp())
    assert out.equal(ramp().flip(3))


def test_scale_by_one_and_rotation_by_nothing_give_the_image_back():
    one, zero = torch.ones(1), torch.zeros(1)
    torch.testing.assert_close(Draw("scale", {"across": one, "down": one})(ramp()), ramp())
    torch.testing.assert_close(Draw("rotate", {"angle": zero})(ramp()), ramp())


def test_colour_by_hand():
    # brightness +1: 0..63 -> 1..64; saturation is no change for grey; contrast 2 about 32.5.
    values = {"brightness": 1.0, "saturation": 0.3, "contrast": 2.0}
    out = Draw("color", {name: torch.tensor([v]) for name, v in values.items()})(ramp())
    torch.testing.assert_close(out, (ramp() + 1 - 32.5) * 2 + 32.5)


def test_an_image_that_must_not_be_mirrored_never_is(rng):
    augmentation = Augmentation(["flip", "crop"], mirror=False)
    assert {augmentation.draw(1, (8, 8), rng).family for _ in range(20)} == {"crop"}


def test_no_family_is_no_change(rng):
    images = torch.randn(2, 1, 8, 8, generator=rng)
    assert Augmentation([], mirror=True).draw(2, (8, 8), rng)(images).equal(images)


def test_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"unknown augmentation family 'blur'; known: color"):
        Augmentation(["blur"], mirror=False)
