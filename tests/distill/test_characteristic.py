"""Characteristic functions agree with arithmetic and with complex numbers, one by one."""

from dataclasses import replace
from math import cos, sin

import pytest
import torch
from torch import Tensor, nn

from distill.networks import ConvNet, Network, fresh
from distill.objectives.characteristic import CharacteristicFunction
from distill.real import ClassBatch

SHAPE = (3, 8, 8)
Pull = tuple[float, Tensor]


def flatten() -> Network:
    return Network(nn.Flatten(), 2, 2)


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def points(*rows: tuple[float, float]) -> ClassBatch:
    """Images of two pixels, all of class 0."""
    images = torch.tensor(rows, dtype=torch.float64).view(-1, 1, 1, 2)
    return ClassBatch(images, torch.zeros(len(rows), dtype=torch.int64), torch.tensor([0]))


def drawn(count: int, features: int, seed: int = 7) -> Tensor:
    """The frequencies that a generator of this seed gives."""
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed)).double()


def pulled(
    statistic: CharacteristicFunction, network: Network, real: ClassBatch, small: ClassBatch
) -> Pull:
    leaf = replace(small, images=small.images.detach().clone().requires_grad_())
    return statistic.pull(network, real, leaf, torch.Generator().manual_seed(7))


def naive(
    statistic: CharacteristicFunction, network: Network, real: ClassBatch, small: ClassBatch
) -> Pull:
    """The paper's loss, class by class and frequency by frequency, in complex numbers."""
    images = small.images.detach().clone().requires_grad_()
    loss, alpha = images.new_zeros(()), statistic.amplitude
    for label in range(len(real.labels)):
        x = network.embed(real.images[real.groups == label]).detach()
        s = network.embed(images[small.groups == label])
        roots = []
        for t in drawn(statistic.frequencies, x.shape[1]):
            phi = [
                torch.stack([(1j * (f / f.norm()).dot(t)).exp() for f in side]).mean()
                for side in (x, s)
            ]
            r, q = phi[0].abs(), phi[1].abs()
            phase = 2 * (r * q - (phi[0] * phi[1].conj()).real)
            roots.append((alpha * (r - q) ** 2 + (1 - alpha) * phase).sqrt())
        loss = loss + torch.stack(roots).mean()
    return loss.item(), torch.autograd.grad(loss, images)[0]


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_loss_of_two_points_is_the_one_worked_by_hand(alpha):
    # Features (1, 0) and (0, 1), frequency t: both amplitudes are 1, and the phase's term is
    # 2 (1 - cos(t1 - t2)) = (2 sin((t1 - t2) / 2))^2.
    t1, t2 = drawn(1, 2)[0].tolist()
    statistic = CharacteristicFunction(1, alpha)
    loss, gradient = pulled(statistic, flatten(), points((1, 0)), points((0, 1)))
    assert loss == pytest.approx((1 - alpha) ** 0.5 * 2 * abs(sin((t1 - t2) / 2)), rel=1e-9)
    # Turning s = (0, 1) by h towards (1, 0) moves its angle by h t1; along s nothing moves.
    sign = 1 if sin((t1 - t2) / 2) > 0 else -1
    slope = -sign * (1 - alpha) ** 0.5 * cos((t1 - t2) / 2) * t1
    assert gradient.flatten().tolist() == pytest.approx([slope, 0.0], rel=1e-9, abs=1e-12)


def test_amplitudes_alone_are_compared_where_phases_weigh_nothing():
    # Real (1, 0) and (-1, 0): the function is cos(t1). One synthetic point: amplitude 1.
    t1 = drawn(1, 2)[0, 0].item()
    real, small = points((1, 0), (-1, 0)), points((0, 1))
    loss, _ = pulled(CharacteristicFunction(1, 1.0), flatten(), real, small)
    assert loss == pytest.approx(1 - abs(cos(t1)), rel=1e-8)


def test_loss_is_the_mean_over_frequencies():
    t = drawn(3, 2)
    expected = (2 * ((t[:, 0] - t[:, 1]) / 2).sin().abs()).mean().item()
    loss, _ = pulled(CharacteristicFunction(3, 0.0), flatten(), points((1, 0)), points((0, 1)))
    assert loss == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_loss_and_gradient_agree_with_complex_numbers(rng, alpha):
    network, statistic = (
        fresh(ConvNet(2, 2), SHAPE, 3, rng).double(),
        CharacteristicFunction(6, alpha),
    )
    real, small = batch([0] * 4 + [1] * 2 + [2] * 3, rng), batch([0, 0, 1, 2], rng)
    ours, theirs = (way(statistic, network, real, small) for way in (pulled, naive))
    # The 1e-12 under the roots is some 1e-9 of squares of 1e-3.
    assert ours[0] == pytest.approx(theirs[0], rel=1e-8)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-7, atol=1e-10)


def test_equal_sets_have_the_loss_of_the_number_under_the_root(rng):
    real, network = batch([0, 0, 1], rng), fresh(ConvNet(2, 2), SHAPE, 3, rng).double()
    loss, gradient = pulled(CharacteristicFunction(8, 0.5), network, real, real)
    # 1e-12 under the root, and half of 2e-12 by the phase of amplitudes that hold it, too
    assert loss == pytest.approx(2 * 2e-12**0.5, rel=1e-3)
    assert gradient.isfinite().all()


def test_rounding_below_zero_does_not_reach_the_root(rng):
    # In float32 equal functions differ by some 1e-7, of either sign, under the root.
    network, real = fresh(ConvNet(2, 2), SHAPE, 3, rng), batch([0] * 5, rng)
    real = replace(real, images=real.images.float())
    loss, gradient = pulled(CharacteristicFunction(512, 0.5), network, real, real)
    assert 0 < loss < 1e-3
    assert gradient.isfinite().all()


def test_the_length_of_embeddings_does_not_count():
    real, small, longer = points((1, 2), (3, -1)), points((2, 1)), points((20, 10))
    statistic = CharacteristicFunction(16, 0.5)
    once, again = (pulled(statistic, flatten(), real, s)[0] for s in (small, longer))
    assert again == pytest.approx(once, rel=1e-12)


def test_frequencies_come_from_the_generator_given():
    statistic, real = CharacteristicFunction(4, 0.5), points((1, 2), (3, -1))
    small, rng, network = points((2, 1)), torch.Generator().manual_seed(7), flatten()
    small.images.requires_grad_()
    before = torch.get_rng_state()
    first, second = (statistic.pull(network, real, small, rng)[0] for _ in range(2))
    assert first == pulled(statistic, network, real, small)[0]
    assert first != second
    assert torch.equal(torch.get_rng_state(), before)


def test_no_frequency_is_refused():
    with pytest.raises(ValueError, match=r"^frequencies must be >= 1, got 0$"):
        CharacteristicFunction(0, 0.5)


@pytest.mark.parametrize("amplitude", [-0.1, 1.1])
def test_an_amplitude_outside_its_range_is_refused(amplitude):
    with pytest.raises(ValueError, match=rf"^amplitude must be in \[0, 1\], got {amplitude}$"):
        CharacteristicFunction(4, amplitude)
