"""Logits near given means: the closed form is the sliced distance of many directions."""

from dataclasses import replace

import pytest
import torch

from distill.networks import MLP, fresh
from distill.objectives.distribution import DistributionMatching
from distill.objectives.near_given_logits import NearGivenLogits
from distill.real import ClassBatch
from distill.rng import derive

NET = fresh(MLP(4, 1), (1, 8, 8), 5, derive(0)).requires_grad_(False)
LABELS = torch.tensor([1, 4])


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), 1, 8, 8, generator=rng)
    return ClassBatch(images, torch.tensor(groups), LABELS)


def pulled(statistic, real: ClassBatch, synthetic: ClassBatch):
    leaf = replace(synthetic, images=synthetic.images.clone().requires_grad_())
    return statistic.pull(NET, real, leaf, torch.Generator())


@pytest.fixture
def sets(rng) -> tuple[ClassBatch, ClassBatch]:
    return batch([0, 0, 0, 1, 1], rng), batch([0, 0, 1], rng)


def near(statistic, sets) -> float:
    alone = DistributionMatching()
    return pulled(statistic, *sets)[0] - pulled(alone, *sets)[0]


def sliced(points: torch.Tensor, target: torch.Tensor, rng: torch.Generator) -> float:
    """The squared sliced 2-Wasserstein distance by 20,000 directions, as it is defined."""
    directions = torch.randn(20_000, points.shape[1], generator=rng)
    directions = directions / directions.norm(dim=1, keepdim=True)
    ours = (points @ directions.T).sort(dim=0).values  # optimal in a line: sorted to sorted
    theirs = (target.expand_as(points) @ directions.T).sort(dim=0).values
    return (ours - theirs).square().mean().item()


def test_the_bond_is_the_sliced_distance_of_many_directions(sets, rng):
    means = {1: torch.randn(5, generator=rng), 4: torch.randn(5, generator=rng)}
    logits = NET(sets[1].images)
    wanted = sliced(logits[:2], means[1], rng) + sliced(logits[2:], means[4], rng)
    # a mean over 20,000 directions is known to about a hundredth
    assert near(NearGivenLogits(DistributionMatching(), means, 1.0), sets) == pytest.approx(
        wanted, rel=0.03
    )


def test_the_bond_agrees_with_arithmetic(sets):
    # Off by (3, 0, 4, 0, 0) from the image's own logits: 25 / 5, times the weight.
    off = torch.tensor([3.0, 0.0, 4.0, 0.0, 0.0])
    means = {4: NET(sets[1].images)[2] - off}
    assert near(NearGivenLogits(DistributionMatching(), means, 0.5), sets) == pytest.approx(2.5)


def test_the_gradient_moves_logits_towards_the_means(sets, rng):
    means = {1: torch.randn(5, generator=rng), 4: torch.randn(5, generator=rng)}
    statistic = NearGivenLogits(DistributionMatching(), means, 100.0)
    before, slope = pulled(statistic, *sets)
    moved = replace(sets[1], images=sets[1].images - 1e-3 * slope)
    assert pulled(statistic, sets[0], moved)[0] < before


@pytest.mark.parametrize(("means", "weight"), [({}, 1.0), ({1: torch.ones(5)}, 0.0)])
def test_without_means_or_weight_it_is_the_other_statistic(sets, means, weight):
    loss, slope = pulled(NearGivenLogits(DistributionMatching(), means, weight), *sets)
    wanted, expected = pulled(DistributionMatching(), *sets)
    assert loss == pytest.approx(wanted)
    assert slope.equal(expected)


def test_a_class_without_a_mean_gets_no_pull(sets):
    means = {1: torch.ones(5)}
    _, slope = pulled(NearGivenLogits(DistributionMatching(), means, 1.0), *sets)
    _, alone = pulled(DistributionMatching(), *sets)
    assert slope[2].equal(alone[2])
    assert not slope[0].equal(alone[0])


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"weight of the given logits must be >= 0, got -1"):
        NearGivenLogits(DistributionMatching(), {}, -1)
