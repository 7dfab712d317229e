"""New images leave the logits of old classes alone; replayed ones compare all that were seen."""

from math import log

import pytest
import torch

from distill.coresets import Random
from fedcl.continual.base import plain
from fedcl.continual.er_ace import ERACE
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

METHOD = ERACE(Random(), Budget(8, None, "fixed", Float32()))


def loss_of(logits, batch, moment):
    return METHOD.lesson(moment).loss(lambda _: logits, batch)


def naive_loss(logits, labels, fresh, seen):
    total = 0.0
    for row, label in enumerate(labels):
        rivals = set(labels[:fresh]) if row < fresh else seen
        total -= (logits[row][label].exp() / sum(logits[row][a].exp() for a in rivals)).log()
    return total / len(labels)


def test_each_image_is_told_apart_among_its_own_classes(batch, moment):
    # Stream: class 1 or 2 by logits 0 and 0, log 2 twice. Memory: 0, 1 or 2, log 3. 9 is unheard.
    logits = torch.tensor([[9.0, 0.0, 0.0, 9.0], [5.0, 0.0, 0.0, 9.0], [0.0, 0.0, 0.0, 9.0]])
    loss = loss_of(logits, batch([1, 2], [0]), moment(classes=[1, 2], earlier=[0]))
    assert loss.item() == pytest.approx((2 * log(2) + log(3)) / 3)


def test_loss_agrees_with_the_naive_loop(batch, moment, rng):
    logits, labels = torch.randn(7, 4, generator=rng), [2, 3, 2, 3, 0, 1, 0]
    loss = loss_of(logits, batch(labels[:4], labels[4:]), moment())
    torch.testing.assert_close(loss, naive_loss(logits, labels, 4, [0, 1, 2, 3]))


def test_new_images_pull_at_no_old_class(batch, moment, rng):
    logits = torch.randn(6, 4, generator=rng, requires_grad=True)
    loss_of(logits, batch([2, 3, 2], [0, 1, 0]), moment()).backward()
    assert (logits.grad[:3, :2] == 0).all()
    assert (logits.grad[:3, 2:] != 0).all()
    assert (logits.grad[3:] != 0).all()


def test_with_every_class_in_the_batch_it_is_replay(batch, moment, network):
    both = batch([2, 3, 0, 1], [0, 1, 1, 0])
    loss = METHOD.lesson(moment()).loss(network, both)
    torch.testing.assert_close(loss, plain(network, both), rtol=0, atol=0)


def test_told_tasks_narrow_the_classes_further(batch, moment, tasks):
    # The image of the memory is of the task of 0 and 1: log 2, not log 4.
    loss = loss_of(torch.zeros(2, 4), batch([2], [0], tasks), moment())
    assert loss.item() == pytest.approx(log(2) / 2)


def test_a_class_of_the_memory_whose_experience_has_not_come_is_an_answer(moment, network, batch):
    # Classes 0 and 1 came, 2 and 3 come; the memory holds a stray of class 3 in an earlier moment.
    early = moment(classes=[1], earlier=[0])
    loss = METHOD.lesson(early).loss(network, batch([1, 1], [0, 3]))
    assert loss.isfinite()
