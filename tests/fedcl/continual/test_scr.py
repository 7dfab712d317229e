"""Images of a class are drawn together, those of others apart; the nearest class mean answers."""

from math import log

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from distill.coresets import Random
from distill.images import LabelledImages
from fedcl.continual.nearest_mean import NearestMean
from fedcl.continual.scr import SCR, contrast
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32

BUDGET = Budget(8, None, "fixed", Float32())
METHOD = SCR(Random(), BUDGET, memory_batch=3, temperature=0.5)


def naive_loss(z, labels, temperature):
    n, total = len(labels), 0.0
    for i in range(n):
        others = [a for a in range(n) if a != i]
        below = sum((z[i].dot(z[a]) / temperature).exp() for a in others)
        positives = [p for p in others if labels[p] == labels[i]]
        terms = [((z[i].dot(z[p]) / temperature).exp() / below).log() for p in positives]
        total -= sum(terms) / len(terms)
    return total / n


def test_loss_is_that_of_finding_the_others_of_a_class():
    # Classes 0, 0, 1, 1: with all similarities equal, one of three others, log 3. With log 2 for
    # the pairs of a class: 2 of 2 + 1 + 1, log 2.
    labels = torch.tensor([0, 0, 1, 1])
    assert contrast(torch.zeros(4, 4), labels, None).item() == pytest.approx(log(3))
    pairs = log(2) * (labels[:, None] == labels).float()
    assert contrast(pairs, labels, None).item() == pytest.approx(log(2))


def test_loss_agrees_with_the_naive_loop(batch, moment, network):
    both = batch([2, 3, 2], [0, 1, 0, 0])
    z = F.normalize(network(torch.cat([both.plain, both.images])))
    expected = naive_loss(z, [*both.labels.tolist()] * 2, 0.5)
    torch.testing.assert_close(METHOD.lesson(moment()).loss(network, both), expected)


def test_told_tasks_are_contrasted_each_by_itself(tasks, rng):
    labels = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3, 2, 3])
    similarities = torch.randn(10, 10, generator=rng)
    first, second = slice(0, 4), slice(4, 10)
    parts = [contrast(similarities[p, p], labels[p], None) for p in (first, second)]
    whole = contrast(similarities, labels, tasks)
    torch.testing.assert_close(whole, 0.4 * parts[0] + 0.6 * parts[1])
    assert whole < contrast(similarities, labels, None)


def test_a_batch_has_no_image_of_the_memory_twice(moment, network):
    def choose(most):
        lesson = SCR(Random(), BUDGET, most, 0.5).lesson(moment())
        return lesson.choose(network, moment().held, moment().held)

    assert len(choose(3)) == 3
    assert len(set(choose(3).tolist())) == 3
    assert sorted(choose(100).tolist()) == [0, 1, 2, 3]


def test_the_nearest_mean_answers_once_there_is_one(moment, network):
    nothing = LabelledImages(torch.zeros(0, 1, 8, 8), torch.zeros(0).long(), 4)
    assert METHOD.classifier(network, nothing) is network
    assert isinstance(METHOD.classifier(network, moment().held), NearestMean)


@pytest.mark.parametrize(("words", "reason"), [((0, 0.5), "memory_batch must"), ((1, 0), "temp")])
def test_what_cannot_be_is_refused(words, reason):
    with pytest.raises(ValueError, match=f"continual.{reason}"):
        SCR(Random(), BUDGET, *words)
