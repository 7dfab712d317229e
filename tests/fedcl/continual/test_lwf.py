"""Learning without forgetting keeps old answers to new images."""

import math
from types import SimpleNamespace

import pytest
import torch

from distill.networks import MLP
from fedcl.continual.answers import answers_by_class
from fedcl.continual.base import Batch, plain
from fedcl.continual.lwf import LwF, distance, earlier_tasks


def moment(network, earlier, answers=None, index=1):
    return SimpleNamespace(network=network, earlier=earlier, answers=answers, index=index)


def batch(rng: torch.Generator, answers=None) -> Batch:
    images, labels = torch.randn(6, 1, 4, 4, generator=rng), torch.tensor([4, 5] * 3)
    told = None if answers is None else answers[labels]
    return Batch(images, images, labels, 6, torch.zeros(0).long(), told)


def test_distance_is_worked_by_hand():
    # At temperature 2 the teacher's logits 0 and 2 log 3 are 1/4 and 3/4, the network's equal
    # ones 1/2 each: log 2. The third class is no part of it.
    logits = torch.tensor([[1.0, 1.0, 7.0]])
    taught = torch.tensor([[0.0, 2 * math.log(3), -5.0]])
    old = [torch.tensor([0, 1])]
    assert distance(logits, taught, old, 2.0).item() == pytest.approx(math.log(2))
    # The teacher's own answers are their entropy away: nothing is nearer.
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert distance(taught, taught, old, 2.0).item() == pytest.approx(entropy)


@pytest.mark.parametrize("told", [False, True])
def test_loss_agrees_with_a_naive_loop(told, rng):
    answers = answers_by_class([[0, 3], [1, 2], [4, 5]], 6) if told else None
    network = MLP(4, 1).build((1, 4, 4), 6)
    loss = LwF(0.7, 2.0).lesson(moment(network, [0, 3, 1, 2], answers)).loss
    teacher_weights = [w.detach().clone() for w in network.parameters()]
    with torch.no_grad():
        for w in network.parameters():
            w += 0.3
    seen = batch(rng, answers)
    expected, teacher = plain(network, seen), MLP(4, 1).build((1, 4, 4), 6)
    with torch.no_grad():
        for mine, its in zip(teacher.parameters(), teacher_weights, strict=True):
            mine.copy_(its)
    for image in seen.images:
        now, before = network(image[None])[0], teacher(image[None])[0].detach()
        for task in [[0, 3], [1, 2]] if told else [[0, 1, 2, 3]]:
            wanted, answered = before[task] / 2, now[task] / 2
            p, q = wanted.exp() / wanted.exp().sum(), answered.exp() / answered.exp().sum()
            expected = expected - 0.7 * (p * q.log()).sum() / 6
    torch.testing.assert_close(loss(network, seen), expected)


def test_the_teacher_gets_no_gradient_and_stays(rng):
    network = MLP(4, 1).build((1, 4, 4), 6)
    lesson, before = LwF(1.0, 2.0).lesson(moment(network, [0, 1])), batch(rng)
    first = lesson.loss(network, before) - plain(network, before)
    network.classifier.weight.data[:2] += torch.randn(2, 4, generator=rng)
    assert lesson.loss(network, before) - plain(network, before) > first
    lesson.loss(network, before).backward()
    assert network.classifier.weight.grad.isfinite().all()


@pytest.mark.parametrize(("index", "share", "strength"), [(1, 1 / 2, 0.5), (2, 1 / 3, 2.0)])
def test_new_images_may_count_less_and_old_answers_more(index, share, strength, rng):
    network, seen = MLP(4, 1).build((1, 4, 4), 6), batch(rng)
    there, later = (moment(network, [0, 1], index=i) for i in (index, 7))
    new, old = plain(network, seen), LwF(1.0, 2.0).lesson(there).loss(network, seen)
    growing = LwF([0.0, 0.5, 2.0], 2.0, diluted=True)
    loss = growing.lesson(there).loss(network, seen)
    torch.testing.assert_close(loss, share * new + strength * (old - new))
    beyond = growing.lesson(later).loss(network, seen)  # the last strength, an eighth of the new
    torch.testing.assert_close(beyond, new / 8 + 2.0 * (old - new))


def test_the_first_experience_is_plain_and_leaves_a_copy():
    network = MLP(4, 1).build((1, 4, 4), 6)
    lesson = LwF(1.0, 2.0).lesson(moment(network, []))
    assert lesson.loss is plain
    left = lesson.leave(network, None, None)
    assert left.keys() == network.state_dict().keys()
    network.classifier.bias.data += 1
    assert not torch.equal(left["classifier.bias"], network.classifier.bias)


def test_classes_that_come_back_are_counted_once():
    (only,) = earlier_tasks(moment(None, [2, 0, 0, 2]))
    assert only.tolist() == [0, 2]


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"continual.strength must be >= 0, got -1"):
        LwF(-1.0, 2.0)
    with pytest.raises(ValueError, match=r"continual.strength must be >= 0, got -2"):
        LwF([0.0, -2.0], 2.0)
    with pytest.raises(ValueError, match=r"continual.strength must be a number or some, got none"):
        LwF([], 2.0)
    with pytest.raises(ValueError, match=r"continual.temperature must be > 0, got 0"):
        LwF(1.0, 0.0)
