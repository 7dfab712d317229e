"""The mean discrepancy agrees with arithmetic, with sums over pairs, and with its two limits."""

from dataclasses import replace
from math import exp

import pytest
import torch
from torch import Tensor, nn

from distill.networks import ConvNet, Network, fresh
from distill.objectives.distribution import DistributionMatching
from distill.objectives.mmd import MeanDiscrepancy, squared_distances
from distill.real import ClassBatch

SHAPE = (3, 8, 8)
Pull = tuple[float, Tensor]


def flatten() -> Network:
    return Network(nn.Flatten(), 1, 2)


def convnet(rng: torch.Generator) -> Network:
    return fresh(ConvNet(3, 2), SHAPE, 3, rng).double()


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def numbers(values: list[float], groups: list[int]) -> ClassBatch:
    """Images of one pixel."""
    images = torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def pulled(statistic, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Pull:
    leaf = replace(synthetic, images=synthetic.images.detach().clone().requires_grad_())
    return statistic.pull(network, real, leaf, torch.Generator())


def mean_over_pairs(left: Tensor, right: Tensor, of) -> Tensor:
    pairs = [of((a - b).square().sum()) for a in left for b in right]
    return torch.stack(pairs).mean()


def naive(bandwidth: float, network: Network, real: ClassBatch, small: ClassBatch) -> Pull:
    """The definition, pair by pair."""
    images = small.images.detach().clone().requires_grad_()
    loss = images.new_zeros(())
    for label in range(len(real.labels)):
        x = network.embed(real.images[real.groups == label]).detach()
        s = network.embed(images[small.groups == label])
        variance = bandwidth * mean_over_pairs(x, x, lambda d: d)

        def kernel(distance: Tensor, variance: Tensor = variance) -> Tensor:
            return (-distance / (2 * variance)).exp()

        loss = loss + mean_over_pairs(x, x, kernel) + mean_over_pairs(s, s, kernel)
        loss = loss - 2 * mean_over_pairs(x, s, kernel)
    return loss.item(), torch.autograd.grad(loss, images)[0]


def test_loss_and_gradient_are_those_worked_by_hand():
    # Real 0 and 2: squared distances 0, 4, 4, 0, mean 2, so k(d) = exp(-d / 4). Among real
    # (1 + 1/e) / 2, among synthetic 1, across (1 + 1/e) / 2: 1 - (1 + 1/e) / 2 in all.
    # Slope at s = 0: none by the image at 0, -2/2 * (1/e) * (2 - s) / 2 by the one at 2.
    real, small = numbers([0, 2], [0, 0]), numbers([0], [0])
    loss, gradient = pulled(MeanDiscrepancy(1.0), flatten(), real, small)
    assert loss == pytest.approx((1 - exp(-1)) / 2, rel=1e-12)
    assert gradient.item() == pytest.approx(-exp(-1), rel=1e-12)


def test_every_class_has_a_kernel_as_wide_as_its_own_images_lie_apart():
    # Class 1 is class 0 ten times as large: its kernel is, too, so its loss is the same.
    real, small = numbers([0, 2, 0, 20], [0, 0, 1, 1]), numbers([0, 0], [0, 1])
    loss, _ = pulled(MeanDiscrepancy(1.0), flatten(), real, small)
    assert loss == pytest.approx(1 - exp(-1), rel=1e-12)


def test_the_kernel_of_a_single_real_image_is_as_wide_as_its_embedding_is_long():
    # Length squared 4 = m, distance 1, so k = exp(-1 / 8): 1 + 1 - 2 k; slope -2 k (2 - 1) / 4.
    loss, gradient = pulled(MeanDiscrepancy(1.0), flatten(), numbers([2], [0]), numbers([1], [0]))
    assert loss == pytest.approx(2 - 2 * exp(-0.125), rel=1e-12)
    assert gradient.item() == pytest.approx(-0.5 * exp(-0.125), rel=1e-12)


def test_a_single_real_image_is_approached():
    # 2 - 2 exp(-d / 8) is d / 4 near 0: a tenth of the way off, a hundredth of the loss.
    losses = [
        pulled(MeanDiscrepancy(1.0), flatten(), numbers([2], [0]), numbers([2 - gap], [0]))[0]
        for gap in (0.1, 0.01)
    ]
    assert losses == pytest.approx([0.01 / 4, 0.0001 / 4], rel=1e-2)


@pytest.mark.parametrize("bandwidth", [0.2, 1.0, 5.0])
def test_loss_and_gradient_agree_with_sums_over_pairs(rng, bandwidth):
    network = convnet(rng)
    real, small = batch([0] * 4 + [1] * 2 + [2] * 3, rng), batch([0, 0, 1, 2, 2, 2], rng)
    ours = pulled(MeanDiscrepancy(bandwidth), network, real, small)
    theirs = naive(bandwidth, network, real, small)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_classes_may_stand_in_any_order(rng):
    network, real, small = convnet(rng), batch([0, 1, 1, 0], rng), batch([1, 0, 1], rng)
    ours, theirs = (
        pulled(MeanDiscrepancy(1.0), network, real, small),
        naive(1.0, network, real, small),
    )
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_a_very_wide_kernel_is_distribution_matching_over_the_variance(rng):
    # exp(-d / 2v) = 1 - d / 2v + O(1 / v^2), and of the d the two means' distance is left:
    # MMD^2 = |gap|^2 / v, with v = b m, up to a relative 1 / b.
    network, real, small = convnet(rng), batch([0] * 4, rng), batch([0, 0], rng)
    wide, dm = 1e6, pulled(DistributionMatching(), network, real, small)
    features = network.embed(real.images).detach()
    variance = wide * mean_over_pairs(features, features, lambda d: d).item()
    loss, gradient = pulled(MeanDiscrepancy(wide), network, real, small)
    assert loss * variance == pytest.approx(dm[0], rel=1e-5)
    torch.testing.assert_close(gradient * variance, dm[1], rtol=1e-5, atol=1e-5)


def test_a_very_narrow_kernel_knows_each_image_only(rng):
    # Every pair but that of an image with itself is at zero: 1/4 + 1/2 and 1/3 + 1.
    real, small = batch([0] * 4 + [1] * 3, rng), batch([0, 0, 1], rng)
    loss, gradient = pulled(MeanDiscrepancy(1e-6), convnet(rng), real, small)
    assert loss == pytest.approx(1 / 4 + 1 / 2 + 1 / 3 + 1, rel=1e-9)
    assert gradient.abs().max() < 1e-9


def test_distances_are_those_of_rows():
    left, right = torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.tensor([[3.0, 4.0]])
    assert squared_distances(left, right).tolist() == [[25.0], [13.0]]


def test_no_distance_is_negative():
    # In float32 the squares of 1e4 swallow a difference of 1e-3, and rounding takes either sign.
    rows = 1e4 + torch.arange(50.0).view(-1, 1) * 1e-3
    assert squared_distances(rows, rows).min() == 0


@pytest.mark.parametrize("bandwidth", [0.0, -1.0])
def test_a_bandwidth_that_is_not_positive_is_refused(bandwidth):
    with pytest.raises(ValueError, match=rf"^bandwidth must be > 0, got {bandwidth}$"):
        MeanDiscrepancy(bandwidth)
