"""RDED keeps the easiest crop of each of the easiest real images, with the teacher's answers."""

from dataclasses import replace

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from distill.rded import RealisticCrops, random_crops
from distill.training import Recipe

RECIPE = Recipe(4, 8, 0.05, 0.9, 0.0, None, Augmentation([], False))
CROPS = RealisticCrops(MLP(16, 1), RECIPE, 4, 3, 0.5)


@pytest.fixture
def task(rng) -> Task:
    """Three classes of faint noise; the first half of each class has its bright row."""
    labels = torch.arange(3).repeat_interleave(8)
    clear = (torch.arange(24) % 8 < 4).float().view(-1, 1, 1, 1)
    images = torch.randn(24, 1, 8, 8, generator=rng) * 0.1
    images[torch.arange(24), :, labels * 3] += clear[..., 0] * 3
    return Task(
        LabelledImages(images, labels, 3), torch.tensor([2, 0, 3]), Normalisation([0.5], [0.25]), 0
    )


def test_whole_images_come_back_where_a_crop_is_the_whole(rng):
    images = torch.randn(4, 2, 8, 9, generator=rng)
    torch.testing.assert_close(random_crops(images, 1.0, rng), images, rtol=1e-5, atol=1e-5)


def test_a_crop_shows_a_part_of_the_ramp(rng):
    # On a ramp from -1 to 1 a crop of side share s spans about 2 s, and s is between .5^.5 and 1.
    ramp = torch.linspace(-1, 1, 32).expand(64, 1, 32, 32)
    crops = random_crops(ramp, 0.5, rng)
    span = (crops[..., -1] - crops[..., 0]).mean((1, 2)) / 2
    assert 0.66 < span.min() < 0.78
    assert 0.9 < span.max() <= 1.0
    assert crops.mean((1, 2, 3)).std() > 0.05  # their places differ


def test_the_set_has_the_counts_and_distributions(task):
    small = condense(CROPS, task).data
    assert small.counts.tolist() == [2, 0, 3]
    torch.testing.assert_close(small.targets.sum(1), torch.ones(5))
    assert condense(CROPS, task).data.images.equal(small.images)


def test_the_easiest_images_are_kept(task):
    # Without cropping, the kept ones are real; clear cases are the easier half.
    small = condense(replace(CROPS, crops=1, smallest=1.0), task).data
    gaps = (small.images.unsqueeze(1) - task.real.images.unsqueeze(0)).abs().amax((2, 3, 4))
    nearest = gaps.min(1)
    assert nearest.values.max() < 1e-4
    assert (nearest.indices % 8 < 4).all()
    assert len(set(nearest.indices.tolist())) == 5


@pytest.mark.parametrize(("field", "value"), [("candidates", 0), ("crops", 0), ("smallest", 0.0)])
def test_bad_fields_are_refused(field, value):
    with pytest.raises(ValueError, match=rf"method\.{field} must be"):
        replace(CROPS, **{field: value})


def test_of_several_crops_the_easiest_is_kept(task):
    # The teacher is surer of the best of eight crops than of one, and less sure of the worst.
    def sureness(crops: int) -> float:
        small = condense(replace(CROPS, crops=crops, candidates=1, smallest=0.3), task).data
        return small.targets[torch.arange(5), small.labels].mean().item()

    assert sureness(8) > sureness(1)


def test_a_teacher_that_diverges_is_refused(task):
    wild = replace(CROPS, recipe=replace(RECIPE, learning_rate=1e30, epochs=3))
    message = (
        r"^the teacher's loss must stay finite, got nan; lower method\.recipe\.learning_rate, now"
    )
    with pytest.raises(FloatingPointError, match=message):
        condense(wild, task)
