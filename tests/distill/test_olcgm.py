"""Merging weighs the images of a group, and makes nothing that lies outside them."""

from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.images import LabelledImages, Normalisation
from distill.network_sources import Fresh
from distill.networks import ConvNet, fresh
from distill.objectives.gradient import GradientMatching, cosine_distance
from distill.objectives.matching import Matching, Statistic
from distill.olcgm import Merging
from distill.optimisers import SGD
from distill.rng import derive

HALF = Normalisation([0.5], [0.25])
NETWORK = ConvNet(3, 2)


def merging(statistic: Statistic, rate: float, iterations: int) -> Merging:
    objective = Matching(statistic, Fresh(NETWORK, 1), Augmentation([], False), 100, None)
    return Merging(objective, SGD(rate, 0.0), iterations)


GRADIENTS = merging(GradientMatching("cosine", "all"), 0.01, 4)


def task(counts: list[int], seed: int = 0) -> Task:
    """Seven mixed images of class 0, six of class 2, none of class 1."""
    images = torch.rand(13, 1, 8, 8, generator=torch.Generator().manual_seed(5)) * 4 - 2
    labels = torch.arange(13) % 2 * 2
    return Task(LabelledImages(images, labels, 3), torch.tensor(counts), HALF, seed)


@final
@dataclass(frozen=True)
class Darkness(Statistic):
    """Asks for low pixels: the loss is the sum over images of their mean pixel."""

    def pull(self, network, real, synthetic, rng):
        means = synthetic.images.mean((1, 2, 3))
        return means.sum().item(), torch.full_like(synthetic.images, 1 / 64)


@pytest.mark.parametrize(
    ("steps", "pixel"),
    [
        # x_1 = 0, x_2 = 1: s = w_2 / (w_1 + w_2), with slopes -w_2 / (w_1 + w_2)^2 and
        # w_1 / (w_1 + w_2)^2. From (.5, .5) they are -.5 and .5; a step of .4 leads to (.7, .3),
        (1, 0.3),
        # where they are -.3 and .7, and the next one to (.82, .02).
        (2, 0.02 / 0.84),
    ],
)
def test_two_images_merge_as_worked_by_hand(steps, pixel):
    pair = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    real = LabelledImages(pair, torch.zeros(2, dtype=torch.int64), 1)
    small = condense(
        merging(Darkness(), 0.4, steps), Task(real, torch.tensor([1]), HALF, 0)
    ).data.images
    torch.testing.assert_close(small, torch.full((1, 1, 8, 8), pixel))


def test_groups_stand_in_order_and_start_as_means():
    # Seven images in three groups: 3, 2, 2; six in one.
    given = task([3, 0, 1])
    zero, two = given.real.of_class(0), given.real.of_class(2)
    expected = [zero[:3].mean(0), zero[3:5].mean(0), zero[5:].mean(0), two.mean(0)]
    small = condense(merging(Darkness(), 1e-9, 1), given)
    torch.testing.assert_close(small.data.images, torch.stack(expected))
    assert small.data.labels.tolist() == [0, 0, 0, 2]
    assert (small.code, small.origin) == (None, "real")


def test_a_step_follows_the_distance_of_gradients():
    given = task([2, 0, 0])
    images, weights = given.real.of_class(0), torch.tensor([0.25] * 4 + [1 / 3] * 3)
    network = fresh(NETWORK, (1, 8, 8), 3, derive(0, "network", 0))
    matched = [p for p in network.parameters() if p.ndim >= 2]
    weights.requires_grad_()

    def mixed():
        parts = zip(weights.split([4, 3]), images.split([4, 3]), strict=True)
        return torch.stack([(w.view(-1, 1, 1, 1) * x).sum(0) / w.sum() for w, x in parts])

    theirs = torch.autograd.grad(F.cross_entropy(network(images), torch.zeros(7).long()), matched)
    ours = torch.autograd.grad(
        F.cross_entropy(network(mixed()), torch.zeros(2).long()), matched, create_graph=True
    )
    loss = sum(cosine_distance(s, r) for s, r in zip(ours, theirs, strict=True))
    weights.data -= 0.01 * torch.autograd.grad(loss, weights)[0]

    (step,) = replace(GRADIENTS, iterations=1).steps(given)
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(step.state()["code"], {"weights": weights.detach()})
    torch.testing.assert_close(step.result().data.images, mixed().detach())


@pytest.mark.parametrize("rate", [0.01, 1e4])
def test_mixtures_lie_between_the_images_of_their_group(rate):
    given = task([2, 0, 2])
    small = condense(replace(GRADIENTS, optimiser=SGD(rate, 0.5)), given).data.images
    groups = [part for label in (0, 2) for part in given.real.of_class(label).tensor_split(2)]
    for mixture, images in zip(small, groups, strict=True):
        assert (mixture >= images.amin(0) - 1e-5).all()
        assert (mixture <= images.amax(0) + 1e-5).all()


def test_as_many_images_as_there_are_come_back_as_they_were():
    given = task([7, 0, 6])
    small = condense(GRADIENTS, given).data.images
    assert small.equal(torch.cat([given.real.of_class(0), given.real.of_class(2)]))


def test_weights_alone_move():
    given = task([2, 0, 2])
    before = given.real.images.clone()
    first, *_, last = GRADIENTS.steps(given)
    assert list(last.state()["code"]) == ["weights"]
    assert not last.state()["code"]["weights"].equal(first.start["code"]["weights"])
    assert given.real.images.equal(before)


def test_a_resumed_run_equals_one_that_was_not_interrupted():
    given = task([2, 0, 3])
    whole = condense(GRADIENTS, given).data.images
    for state in [step.state() for step in GRADIENTS.steps(given)][:-1]:
        rest = list(GRADIENTS.steps(given, state))
        assert [step.done for step in rest] == list(range(state["done"] + 1, 5))
        assert rest[-1].result().data.images.equal(whole)


def test_the_seed_decides():
    images = [condense(GRADIENTS, task([2, 0, 2], seed)).data.images for seed in (0, 0, 1)]
    assert images[0].equal(images[1])
    assert not images[0].equal(images[2])


def test_more_images_than_there_are_cannot_be_made():
    with pytest.raises(ValueError, match="ipc must be <= 7, the real images of class 0, got 8"):
        condense(GRADIENTS, task([8, 0, 2]))


def test_no_iteration_is_refused():
    with pytest.raises(ValueError, match=r"method\.iterations must be >= 1, got 0"):
        replace(GRADIENTS, iterations=0)
