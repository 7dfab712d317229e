"""A set that is there is the start of the next one."""

from dataclasses import replace

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.given_set import GivenSet
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels
from distill.network_sources import Fresh
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels

HALF = Normalisation([0.5], [0.25])


@pytest.fixture
def task(rng) -> Task:
    real = LabelledImages(torch.randn(9, 1, 8, 8, generator=rng), torch.arange(9) % 3, 3)
    return Task(real, torch.tensor([2, 0, 1]), HALF, 0)


def test_the_set_comes_back_as_it_is(task):
    small = condense(Random(), task)
    assert condense(GivenSet(small), task) is small
    assert GivenSet(small).makes_pixels


def test_distilling_goes_on_from_it(task):
    objective = Matching(
        DistributionMatching(), Fresh(MLP(4, 1), 1), Augmentation([], mirror=False), 9, None
    )
    small = condense(Random(), replace(task, seed=5))
    still = Distillation(
        objective,
        Parameterisation(Pixels(False)),
        HardLabels(),
        GivenSet(small),
        SGD(1e-9, 0.0),
        1,
    )
    torch.testing.assert_close(condense(still, task).data.images, small.data.images)


def test_other_counts_are_refused(task):
    small = condense(Random(), task)
    with pytest.raises(ValueError, match=r"given set, \[2, 0, 1\], got \[1, 0, 1\]"):
        condense(GivenSet(small), replace(task, counts=torch.tensor([1, 0, 1])))
