"""Images of the memory are to keep the logits that they once had."""

from dataclasses import replace
from math import exp, log

import pytest
import torch

from distill.coresets import Random
from distill.images import LabelledImages
from fedcl.continual.base import Batch, plain
from fedcl.continual.der import DER, kept_logits
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

BUDGET = Budget(8, None, "fixed", Float32())


def test_loss_weighs_classes_and_kept_logits(moment):
    # Stream: log 2. Memory: logits (1, 3), kept (0, 1), ((1 - 0)^2 + (3 - 1)^2) / 2 = 2.5; as
    # class 1 log(1 + e^-2).
    logits, images = torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.zeros(2, 1, 8, 8)
    both = Batch(images, images, torch.tensor([0, 1]), 1, torch.tensor([1]), None)
    kept = {"logits": torch.tensor([[7.0, 7.0], [0.0, 1.0]])}
    loss = DER(Random(), BUDGET, 0.2, 0.5).lesson(moment(left=kept)).loss(lambda _: logits, both)
    assert loss.item() == pytest.approx(log(2) + 0.2 * 2.5 + 0.5 * log(1 + exp(-2)))


def test_without_kept_logits_it_is_twice_replay(moment, network, batch):
    both, kept = batch([2, 3, 2], [0, 1, 0]), {"logits": torch.ones(4, 4)}
    loss = DER(Random(), BUDGET, 0.0, 1.0).lesson(moment(left=kept)).loss(network, both)
    torch.testing.assert_close(loss, 2 * plain(network, both))


def test_told_tasks_narrow_the_classes(moment, batch, tasks):
    # log 2 each, not log 4; kept logits of all classes are zeros, as the network's are.
    both, kept = batch([2, 3], [0, 1], tasks), {"logits": torch.zeros(4, 4)}
    lesson = DER(Random(), BUDGET, 1.0, 1.0).lesson(moment(left=kept))
    loss = lesson.loss(lambda images: torch.zeros(len(images), 4), both)
    assert loss.item() == pytest.approx(2 * log(2))


def test_the_first_experience_is_plain(moment, network, batch):
    assert DER(Random(), BUDGET, 0.2, 1.0).lesson(moment()).loss is plain


def test_an_image_keeps_its_logits_wherever_it_stands(moment, network):
    before = moment(left={"logits": torch.arange(16.0).view(4, 4)})
    new = torch.full((1, 1, 8, 8), 0.5)
    images = torch.cat([before.held.images[[1]], new, before.held.images[[3, 2]]])
    logits = kept_logits(network, LabelledImages(images, torch.tensor([0, 1, 1, 1]), 4), before)
    assert torch.equal(logits[[0, 2, 3]], torch.arange(16.0).view(4, 4)[[1, 3, 2]])
    torch.testing.assert_close(logits[[1]], network(new))
    lesson = DER(Random(), BUDGET, 0.2, 1.0).lesson(replace(before, left={}))
    first = lesson.leave(network, before.held, before.held)["logits"]
    torch.testing.assert_close(first, network(before.held.images))
    assert not first.requires_grad


@pytest.mark.parametrize(("words", "name"), [((-1, 0), "alpha"), ((0, -1), "beta")])
def test_negative_weights_are_refused(words, name):
    with pytest.raises(ValueError, match=f"continual.{name} must be >= 0, got -1"):
        DER(Random(), BUDGET, *words)
