"""Those images are replayed whose loss a step on the stream adds most to."""

import copy
from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from distill.coresets import Random
from distill.images import LabelledImages
from distill.rng import derive
from fedcl.continual.mir import MIR, interference
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

BUDGET = Budget(8, None, "fixed", Float32())


class Pixel(nn.Module):
    """Logits, each a weight times the first pixel."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes))

    def forward(self, images):
        return images[:, 0, 0, :1] * self.weight


def came(batch):
    """The images of a batch, as they come to a lesson's choice."""
    return LabelledImages(batch.plain, batch.labels, 4)


def test_the_growth_is_that_of_a_step(moment):
    # At weights (0, 0) the gradient of pixel 1 of class 0 is (-1/2, 1/2); a step of 2: (1, -1).
    # Class 1 with pixel 1: log 2 -> log(1 + e^2); with pixel -1: log 2 -> log(1 + e^-2).
    images = torch.ones(2, 1, 8, 8) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    now = moment(held=LabelledImages(images, torch.tensor([1, 1]), 2))
    now = replace(now, recipe=replace(now.recipe, learning_rate=2.0))
    stream = LabelledImages(torch.ones(1, 1, 8, 8), torch.tensor([0]), 2)
    growth = interference(Pixel(2), now, stream, now.held.rows(torch.tensor([0, 1, 0])))
    more, less = log((1 + exp(2)) / 2), log((1 + exp(-2)) / 2)
    assert growth.tolist() == pytest.approx([more, less, more])


def test_the_growth_agrees_with_a_step_taken(moment, network, batch):
    now, new, rows = moment(), came(batch([2, 3, 2, 3], [])), torch.tensor([3, 0, 1, 2, 2])
    growth = interference(network, now, new, now.held.rows(rows))
    ahead = copy.deepcopy(network)
    F.cross_entropy(ahead(new.images), new.labels).backward()
    torch.optim.SGD(ahead.parameters(), lr=0.5).step()
    held, labels = now.held.images[rows], now.held.labels[rows]
    before, after = (F.cross_entropy(n(held), labels, reduction="none") for n in (network, ahead))
    torch.testing.assert_close(growth, after - before)
    assert len(growth.round(decimals=4).unique()) == 4  # one image came twice
    assert growth.max() > 0


def test_the_network_stays_as_it_is(moment, network, batch):
    before, new = copy.deepcopy(network), came(batch([2, 3], []))
    interference(network, moment(), new, moment().held)
    for mine, theirs in zip(network.parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert mine.grad is None


def test_the_most_harmed_candidates_are_replayed(moment, network, batch):
    new, held = came(batch([2, 3, 2], [])), moment().held
    rows = MIR(Random(), BUDGET, 9).lesson(moment()).choose(network, new, held)
    drawn = torch.randperm(4, generator=derive(0, "lesson"))
    growth = interference(network, moment(), new, held.rows(drawn))
    assert rows.tolist() == drawn[growth.argsort(descending=True)[:3]].tolist()


def test_with_as_many_candidates_as_are_replayed_it_is_replay(moment, network, batch):
    new, held = came(batch([2, 3, 2, 3], [])), moment().held
    rows = MIR(Random(), BUDGET, 4).lesson(moment()).choose(network, new, held)
    assert rows.sort().values.tolist() == [0, 1, 2, 3]


def test_a_memory_of_fewer_images_than_a_batch_is_replayed_in_turn(moment, network, batch):
    new, held = came(batch([2, 3, 2, 3], [])), moment().held.rows(torch.arange(3))
    rows = MIR(Random(), BUDGET, 4).lesson(moment()).choose(network, new, held).tolist()
    assert sorted(rows[:3]) == [0, 1, 2]
    assert rows[3] == rows[0]


def test_told_tasks_keep_other_logits_out_of_the_step(moment, tasks):
    # A step on an image of class 2 moves the weights of 2 and 3; told its task, 0 compares with 1.
    image = torch.ones(1, 1, 8, 8)
    now = moment(held=LabelledImages(image, torch.tensor([0]), 4))
    stream = LabelledImages(image, torch.tensor([2]), 4)
    told = interference(Pixel(4), replace(now, answers=tasks), stream, now.held)
    assert told.item() == 0.0
    assert interference(Pixel(4), now, stream, now.held).item() != 0.0


def test_fewer_candidates_than_a_batch_are_refused(moment):
    with pytest.raises(ValueError, match=r"continual.candidates must be >= training.batch, 4, got"):
        MIR(Random(), BUDGET, 3).check_recipe(moment().recipe)
