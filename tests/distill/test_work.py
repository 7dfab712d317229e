"""Work is done as far as it is asked for, and says how much there is."""

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Condenser, Step, Task, condense, even_counts
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.training import Recipe
from distill.work import condensing, training

DATA = LabelledImages(torch.arange(640.0).view(10, 1, 8, 8), torch.arange(10) % 2, 2)
RECIPE = Recipe(3, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))


@pytest.mark.parametrize(("units", "done"), [(1, 1), (5, 5), (100, 9)])
def test_training_takes_the_steps_that_are_asked_for(units, done):
    # Ten images in batches of four: three steps an epoch, nine in all.
    network, steps = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)), []
    network.register_forward_hook(lambda *_: steps.append(1))
    work = training("training", lambda: network, DATA, RECIPE)
    assert work.units == 9
    assert work.do(units) == 9
    assert len(steps) == done


class Counted(Condenser):
    """Takes seven steps and counts those that were taken."""

    makes_pixels = True

    def __init__(self):
        self.taken = 0

    def steps(self, task, state=None):
        del state
        for done in range(1, 8):
            self.taken += 1
            yield Step(done, 7, None, dict, lambda: condense(Random(), task))


@pytest.mark.parametrize(("units", "done"), [(1, 1), (3, 3), (100, 7)])
def test_condensing_takes_the_steps_that_are_asked_for(units, done):
    method = Counted()
    task = Task(DATA, even_counts(DATA, 1), Normalisation([0.5], [0.5]), 0)
    work = condensing("distilling", method, task)
    assert (work.units, method.taken) == (None, 0)
    assert work.do(units) == 7
    assert method.taken == done
