"""Relationship matching agrees with arithmetic, with a naive loop, and sees the past alone."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import ConvNet, Network, fresh
from distill.objectives.gradient import GradientMatching
from distill.objectives.relation import Related, relation_gap
from distill.real import ClassBatch, RealData

SHAPE = (1, 8, 8)
GRADIENTS = GradientMatching("squared", "convolutions")


def point(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, 2)


def single(image: Tensor) -> ClassBatch:
    return ClassBatch(image, torch.tensor([0]), torch.tensor([0]))


def images(count: int, rng: torch.Generator) -> Tensor:
    return torch.randn(count, *SHAPE, generator=rng, dtype=torch.float64)


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    rows = torch.tensor(groups)
    return ClassBatch(images(len(groups), rng), rows, torch.tensor([0, 2]))


def convnet(rng: torch.Generator) -> Network:
    return fresh(ConvNet(3, 2), SHAPE, 4, rng).double().requires_grad_(False)


def real_data(past: Tensor, rng: torch.Generator) -> RealData:
    """Classes 0 and 2 are made small; class 1 is there already."""
    labels = torch.tensor([0, 0, 2, 2, 2] + [1] * len(past))
    data = LabelledImages(torch.cat([images(5, rng), past]), labels, 4)
    return RealData(Task(data, torch.tensor([1, 0, 1, 0]), Normalisation((0.0,), (1.0,)), seed=0))


def pulled(statistic: Related, data: RealData, seed: int = 0) -> tuple[float, Tensor]:
    rng = torch.Generator().manual_seed(7)
    network, real, small = convnet(rng), batch([0, 0, 1, 1, 1], rng), batch([0, 1], rng)
    leaf = replace(small, images=small.images.requires_grad_())
    return statistic.about(data)(network, real, leaf, torch.Generator().manual_seed(seed))


def test_distances_are_those_of_unit_features() -> None:
    """By hand: u(s) = (0, 1), u(x) = (1, 0); to m = (1, 0): sqrt 2 and 0, to (0, 1): 0, sqrt 2."""
    network = Network(nn.Flatten(), 2, 2).double()
    others = torch.cat([point(3, 0), point(0, 5)])
    gap = relation_gap(network, single(point(7, 0)), single(point(0, 2)), others)
    assert gap.item() == pytest.approx(2 * 2**0.5)


def test_gradient_is_that_of_a_naive_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    network, real, small = convnet(rng), batch([0, 1, 1, 0], rng), batch([0, 0, 1], rng)
    others, leaf = images(3, rng), small.images.clone().requires_grad_()
    total = leaf.new_zeros(())
    for group in range(2):
        means = []
        for x in (leaf[small.groups == group], real.images[real.groups == group]):
            features = [network.embed(image[None])[0] for image in x]
            means.append(torch.stack([f / f.norm() for f in features]).mean(0))
        for m in others:
            u = network.embed(m[None])[0]
            ours, theirs = ((mean - u / u.norm()).norm() for mean in means)
            total = total + (ours - theirs).abs()
    expected = torch.autograd.grad(total, leaf)[0]
    cut = replace(small, images=small.images.requires_grad_())
    gap = relation_gap(network, real, cut, others)
    torch.testing.assert_close(gap.detach(), total.detach())
    torch.testing.assert_close(torch.autograd.grad(gap, cut.images)[0], expected)


def test_without_a_past_it_is_the_other_statistic() -> None:
    rng = torch.Generator().manual_seed(1)
    data = real_data(images(0, rng), rng)
    assert len(data.others) == 0
    loss, gradient = pulled(Related(GRADIENTS, 1.0, 10), data)
    alone = pulled(Related(GRADIENTS, 0.0, 10), real_data(images(2, rng), rng))
    assert loss == alone[0]
    assert gradient.equal(alone[1])


def test_past_pulls_besides() -> None:
    rng = torch.Generator().manual_seed(2)
    past = images(2, rng)
    data = real_data(past, rng)
    assert data.others.equal(past)
    weights = (0.0, 1.0, 3.0)
    losses, slopes = zip(*(pulled(Related(GRADIENTS, w, 10), data) for w in weights), strict=True)
    assert losses[1] > losses[0]
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]))
    assert not slopes[1].allclose(slopes[0])
    torch.testing.assert_close(slopes[2] - slopes[0], 3 * (slopes[1] - slopes[0]))


def test_some_of_the_past_are_drawn_anew_each_time() -> None:
    rng = torch.Generator().manual_seed(3)
    data = real_data(images(6, rng), rng)
    losses = {pulled(Related(GRADIENTS, 1.0, 1), data, seed)[0] for seed in range(12)}
    assert len(losses) == 6


@pytest.mark.parametrize(("weight", "others", "name"), [(-1.0, 1, "weight"), (1.0, 0, "others")])
def test_bad_values_are_refused(weight: float, others: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"objective.statistic.{name} must be"):
        Related(GRADIENTS, weight, others)
