"""Outputs for old classes are held, those for new ones learnt; the nearest mean answers."""

from math import log

import pytest
import torch
from torch import nn

from distill.coresets import Random
from distill.images import LabelledImages
from distill.networks import MLP, fresh
from distill.rng import derive
from fedcl.continual.base import Batch
from fedcl.continual.icarl import ICaRL, copied
from fedcl.continual.nearest_mean import NearestMean
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

METHOD = ICaRL(Random(), Budget(8, None, "fixed", Float32()))


class Constant(nn.Module):
    """Logits that no image changes."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def entropy(q, g):
    return -q * log(g) - (1 - q) * log(1 - g)


def other_network():
    return fresh(MLP(6, 1), (1, 8, 8), 4, derive(1, "network"))


def naive_loss(network, before, both, old, new):
    total = 0.0
    for image, label in zip(both.images, both.labels.tolist(), strict=True):
        g, q = network(image[None])[0].sigmoid(), before(image[None])[0].sigmoid().detach()
        for c in [*old, *new]:
            wanted = q[c] if c in old else float(label == c)
            total -= wanted * g[c].log() + (1 - wanted) * (1 - g[c]).log()
    return total / len(both.labels)


def test_loss_adds_old_outputs_and_new_classes(moment):
    # An image of class 1. Class 0 is old: was 1/4, is 3/4. Class 1 is new: is 1/2. 2 is unseen.
    images = torch.zeros(1, 1, 8, 8)
    network = Constant(log(3), 0.0, 5.0)
    left = {"logits": torch.tensor([log(1 / 3), 9.0, 9.0])}
    now = moment(network=network, classes=[1], earlier=[0], left=left)
    both = Batch(images, images, torch.tensor([1]), 1, torch.zeros(0).long(), None)
    loss = METHOD.lesson(now).loss(network, both)
    assert loss.item() == pytest.approx(entropy(0.25, 0.75) + entropy(1, 0.5))


def test_loss_agrees_with_the_naive_loop(moment, network, batch):
    both, before = batch([2, 3, 2], [0, 1, 0]), other_network()
    loss = METHOD.lesson(moment(left=copied(before))).loss(network, both)
    torch.testing.assert_close(loss, naive_loss(network, before, both, [0, 1], [2, 3]))


def test_at_first_nothing_pulls_at_old_or_unseen_classes(moment, network, batch):
    # The network is still the one before the experience, so its old outputs are as wanted.
    lesson = METHOD.lesson(moment(earlier=[0], classes=[2], left=copied(network)))
    lesson.loss(network, batch([2, 2], [0])).backward()
    pull = network.classifier.weight.grad.abs().sum(1)
    assert (pull > 1e-6).tolist() == [False, False, True, False]


def test_the_network_before_is_asked_apart_from_the_one_that_learns(moment, network, batch):
    # Whoever counts what passes through the network in training sees its own images alone.
    loss, passed = METHOD.lesson(moment(left=copied(other_network()))).loss, []
    network.register_forward_pre_hook(lambda _network, given: passed.append(len(given[0])))
    loss(network, batch([2, 3, 2], [0, 1, 0]))
    assert passed == [6]


def test_classes_that_come_back_are_learnt(moment, network, batch):
    both = batch([0, 1], [0, 1])
    back = METHOD.lesson(moment(earlier=[0, 1], classes=[0, 1], left=copied(other_network())))
    first = METHOD.lesson(moment(earlier=[], classes=[0, 1]))
    assert torch.equal(back.loss(network, both), first.loss(network, both))


def test_a_stray_of_a_blurry_stream_is_of_its_class_and_one_of_the_memory_as_it_was(moment):
    # Images of class 0, which is old: was 1/4, is 3/4; and of class 2, yet to come: is 1/3.
    images = torch.zeros(3, 1, 8, 8)
    now = moment(
        network=Constant(log(3), 0.0, log(1 / 2)),
        classes=[1],
        earlier=[0],
        left={"logits": torch.tensor([log(1 / 3), 9.0, 9.0])},
    )
    both = Batch(images, images, torch.tensor([0, 2, 0]), 2, torch.zeros(1).long(), None)
    loss = METHOD.lesson(now).loss(now.network, both)
    terms = [
        entropy(1, 0.75) + entropy(0, 0.5),
        entropy(0.25, 0.75) + entropy(0, 0.5) + entropy(1, 1 / 3),
        entropy(0.25, 0.75) + entropy(0, 0.5),
    ]
    assert loss.item() == pytest.approx(sum(terms) / 3)


def test_told_tasks_make_no_negatives_of_each_other(moment, network, batch, tasks):
    # The image of class 0 counts for the old outputs of 0 and 1, not for the new classes 2 and 3.
    before = other_network()
    both = batch([], [0], tasks)
    loss = METHOD.lesson(moment(left=copied(before))).loss(network, both)
    torch.testing.assert_close(loss, naive_loss(network, before, both, [0, 1], []))


def test_what_is_left_is_the_network_as_it_was(moment, network):
    left = METHOD.lesson(moment()).leave(network, moment().held, moment().held)
    weight = network.classifier.weight.detach().clone()
    with torch.no_grad():
        network.classifier.weight += 1
    assert torch.equal(left["classifier.weight"], weight)
    assert set(left) == set(network.state_dict())


def test_the_nearest_mean_answers_once_there_is_one(moment, network):
    nothing = LabelledImages(torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), 4)
    assert METHOD.classifier(network, nothing) is network
    assert isinstance(METHOD.classifier(network, moment().held), NearestMean)
