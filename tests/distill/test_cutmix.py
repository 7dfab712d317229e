"""CutMix moves one box between images, and as much of their targets."""

import pytest
import torch
from torch import Tensor

from distill.cutmix import _span, cutmix


def numbered(count: int, height: int, width: int) -> Tensor:
    """Images of two channels whose every pixel is the number of the image."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 2, height, width).clone()


@pytest.mark.parametrize(
    ("middle", "side", "span"),
    [
        # 8 pixels: a box of int(8 * .5) = 4 around pixel 4; around 1, one pixel is cut off;
        # around 7, likewise; a box of int(8 * .1) = 0 pixels; and all of the image
        (0.5, 0.5, slice(2, 6)),
        (0.125, 0.5, slice(0, 3)),
        (0.99, 0.5, slice(5, 8)),
        (0.5, 0.1, slice(4, 4)),
        (0.5, 1.0, slice(0, 8)),
    ],
)
def test_a_box_lies_around_its_centre_and_is_cut_off_at_the_border(middle, side, span):
    assert _span(8, middle, side) == span


def test_pixels_and_targets_come_from_the_same_two_images_in_the_same_shares(rng):
    images, targets = numbered(5, 8, 12), torch.eye(5)
    shares = set()
    for _ in range(50):
        mixed, soft = cutmix(images, targets, rng)
        for n in range(5):
            # every pixel counts for the image that it came from
            counted = torch.bincount(mixed[n].long().flatten(), minlength=5) / mixed[n].numel()
            torch.testing.assert_close(soft[n], counted)
        shares.add(round(soft.diagonal().min().item(), 4))
    assert len(shares) > 20


def test_the_box_is_one_rectangle_for_all_images(rng):
    mixed, _ = cutmix(numbered(7, 8, 12), torch.eye(7), rng)
    changed = mixed != numbered(7, 8, 12)
    box = changed.any(1).any(0)
    assert 0 < box.sum() == box.any(1).sum() * box.any(0).sum()
    moved = changed.flatten(1).any(1)
    assert changed[moved].equal(box.expand(int(moved.sum()), 2, 8, 12))


def test_areas_are_uniform_up_to_what_is_cut_off():
    # A box of side s, centred uniformly on [0, 1], keeps s - s^2 / 4 of a side on average; with
    # s^2 uniform the kept area is the mean of (s - s^2/4)^2 = s^2 - s^3/2 + s^4/16:
    # 1/2 - 1/2 * 2/5 + 1/16 * 1/3 = .3208. 256 pixels a side round it down by less than .01.
    rng = torch.Generator().manual_seed(1)
    images, targets = torch.zeros(2, 1, 256, 256), torch.eye(2)
    kept = []
    while len(kept) < 2000:
        _, soft = cutmix(images, targets, rng)
        if soft[0, 0] < 1:  # the partner is the other image, and the box is not empty
            kept.append(1 - soft[0, 0].item())
    assert sum(kept) / len(kept) == pytest.approx(0.3208, abs=0.02)


def test_the_images_given_are_left_alone(rng):
    images = numbered(5, 8, 8)
    cutmix(images, torch.eye(5), rng)
    assert torch.equal(images, numbered(5, 8, 8))


def test_one_image_stays_itself(rng):
    mixed, soft = cutmix(numbered(1, 8, 8) + 3, torch.ones(1, 1), rng)
    assert (mixed == 3).all()
    torch.testing.assert_close(soft, torch.ones(1, 1))
