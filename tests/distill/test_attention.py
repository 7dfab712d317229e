"""Attention matching agrees with arithmetic and with a naive loop."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.networks import MLP, ConvNet, Network, fresh
from distill.objectives.attention import AttentionMatching, attention
from distill.real import ClassBatch

SHAPE = (3, 8, 8)
Pull = tuple[float, Tensor]


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def image(*channels: list[float]) -> ClassBatch:
    """One image of class 0, one row of pixels a channel."""
    images = torch.tensor(channels, dtype=torch.float64).view(1, len(channels), 1, -1)
    return ClassBatch(images, torch.tensor([0]), torch.tensor([0]))


def relus() -> Network:
    """Two layers whose activations are the image's positive part, which is the embedding too."""
    return Network(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Flatten()), 4, 2).double()


def pulled(network: Network, real: ClassBatch, synthetic: ClassBatch, *how: float) -> Pull:
    leaf = replace(synthetic, images=synthetic.images.detach().clone().requires_grad_())
    return AttentionMatching(*how).pull(network, real, leaf, torch.Generator())


def seen(network: Network, images: Tensor, power: float) -> list[Tensor]:
    """The attention of all ReLUs but the last, image by image, and the embedding."""
    kept: list[Tensor] = []
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    hooks = [m.register_forward_hook(lambda _m, _i, out: kept.append(out)) for m in relus]
    features = network.embed(images)
    for hook in hooks:
        hook.remove()
    maps = []
    for layer in kept[:-1]:
        rows = [sum(channel**power for channel in one).flatten() for one in layer]
        maps.append(torch.stack([row / row.square().sum().sqrt() for row in rows]))
    return [*maps, features]


def naive(
    network: Network, real: ClassBatch, small: ClassBatch, power: float, balance: float
) -> Pull:
    """The paper's sums over classes and layers, written without the code under test."""
    images = small.images.detach().clone().requires_grad_()
    loss = images.new_zeros(())
    for label in range(len(real.labels)):
        theirs = seen(network, real.images[real.groups == label], power)
        ours = seen(network, images[small.groups == label], power)
        gaps = [(r.mean(0) - s.mean(0)).square().sum() for r, s in zip(theirs, ours, strict=True)]
        loss = loss + sum(gaps[:-1]) + balance * gaps[-1]
    return loss.item(), torch.autograd.grad(loss, images)[0]


def test_loss_is_the_one_worked_by_hand():
    # Real: channels add up to (3, 4), attention (.6, .8); synthetic: attention (1, 0). Squared
    # distance .16 + .64. Embeddings (1, 4, 2, 0) and (1, 0, 0, 0): 16 + 4, of which a hundredth.
    real, small = image([1, 4], [2, 0]), image([1, 0], [0, 0])
    assert pulled(relus(), real, small, 1.0, 0.01)[0] == pytest.approx(1.0, rel=1e-12)


def test_gradient_is_the_one_worked_by_hand():
    # No embedding's term. Attention u = s / |s| of s = (3, 4), target v = (1, 0): the slope
    # of |u - v|^2 is -2 (v - <u, v> u) / |s| = -2 (.64, -.48) / 5.
    _, gradient = pulled(relus(), image([1, 0]), image([3, 4]), 1.0, 0.0)
    assert gradient.flatten().tolist() == pytest.approx([-0.256, 0.192], rel=1e-12)


def test_attention_sums_powers_over_channels_and_has_length_one():
    # Channels (1, -2) and (1, 0), p = 3: (1 + 1, 8 + 0), of length sqrt(68).
    maps = torch.tensor([[1.0, -2.0], [1.0, 0.0]]).view(1, 2, 1, 2)
    expected = torch.tensor([[2.0, 8.0]]) / 68**0.5
    torch.testing.assert_close(attention(maps, 3.0), expected)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_loss_and_gradient_agree_with_the_naive_loop(rng, power):
    network = fresh(ConvNet(3, 3), SHAPE, 3, rng).double()
    real, small = batch([0] * 4 + [1] * 2 + [2] * 3, rng), batch([0, 1, 1, 2], rng)
    ours = pulled(network, real, small, power, 0.3)
    theirs = naive(network, real, small, power, 0.3)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_chunks_of_the_real_side_do_not_show(rng):
    network = fresh(ConvNet(2, 2), SHAPE, 3, rng).double()
    real, small = batch([i % 3 for i in range(130)], rng), batch([0, 1, 2], rng)
    ours, theirs = (way(network, real, small, 4.0, 0.01) for way in (pulled, naive))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_attention_does_not_see_how_strong_activations_are():
    # Three times the image has the same attention; embeddings don't count here.
    real, small = image([1, 4], [2, 0]), image([3, 12], [6, 0])
    assert pulled(relus(), real, small, 4.0, 0.0)[0] == pytest.approx(0.0, abs=1e-15)


def test_a_map_of_zeros_has_no_gradient_that_is_not_finite():
    loss, gradient = pulled(relus(), image([3, 4]), image([-1, -2]), 4.0, 0.01)
    assert loss == pytest.approx(1 + 0.25, rel=1e-12)  # |v|^2 = 1, and .01 * (9 + 16)
    assert gradient.flatten().tolist() == [0.0, 0.0]


def test_a_network_without_maps_is_refused(rng):
    network, real = fresh(MLP(4, 2), SHAPE, 3, rng).double(), batch([0], rng)
    with pytest.raises(ValueError, match=r"^network must be a chain of .* take convnet$"):
        pulled(network, real, real, 4.0, 0.01)


def test_a_power_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"^power must be > 0, got 0\.0$"):
        AttentionMatching(0.0, 0.01)


def test_a_negative_balance_is_refused():
    with pytest.raises(ValueError, match=r"^balance must be >= 0, got -0\.01$"):
        AttentionMatching(4.0, -0.01)
