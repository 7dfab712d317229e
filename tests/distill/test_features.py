"""Aligned features agree with arithmetic and with a naive loop."""

from dataclasses import fields, replace
from math import log

import pytest
import torch
from torch import Tensor, nn

from distill.networks import MLP, ConvNet, Network, fresh
from distill.objectives.features import AlignedFeatures
from distill.real import ClassBatch

SHAPE = (3, 8, 8)
CAFE = AlignedFeatures(0.1, 1.0, 2.0, 0.01)
MEANS = replace(CAFE, discrimination=0.0)
Pull = tuple[float, Tensor]


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def pixels(rows: list[tuple[float, float]], groups: list[int]) -> ClassBatch:
    images = torch.tensor(rows, dtype=torch.float64).view(-1, 1, 1, 2)
    return ClassBatch(images, torch.tensor(groups), torch.tensor([2, 5])[: max(groups) + 1])


def relus() -> Network:
    """Three layers whose activations are the image's positive part, which is embedded."""
    layers = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Flatten())
    return Network(layers, 2, 6)


def pulled(
    statistic: AlignedFeatures, network: Network, real: ClassBatch, small: ClassBatch
) -> Pull:
    leaf = replace(small, images=small.images.detach().clone().requires_grad_())
    return statistic.pull(network, real, leaf, torch.Generator())


def seen(network: Network, images: Tensor) -> list[Tensor]:
    """What comes out of every ReLU, and the embedding."""
    kept: list[Tensor] = []
    relus = [module for module in network.modules() if isinstance(module, nn.ReLU)]
    hooks = [m.register_forward_hook(lambda _m, _i, out: kept.append(out)) for m in relus]
    features = network.embed(images)
    for hook in hooks:
        hook.remove()
    return [*kept, features]


def naive(
    statistic: AlignedFeatures, network: Network, real: ClassBatch, small: ClassBatch
) -> Pull:
    """The released code's sums, one class and one real image at a time."""
    images = small.images.detach().clone().requires_grad_()
    loss, centres, embeddings = images.new_zeros(()), [], []
    for label in range(len(real.labels)):
        theirs = seen(network, real.images[real.groups == label])
        ours = seen(network, images[small.groups == label])
        *early, last, embedding = [
            (r.mean(0) - s.mean(0)).square().sum() for r, s in zip(theirs, ours, strict=True)
        ]
        loss = loss + statistic.early * sum(early) + statistic.last * last
        loss = loss + statistic.embedding * embedding
        centres.append(ours[-1].mean(0))
        embeddings += [(feature.detach(), label) for feature in theirs[-1]]
    for feature, label in embeddings:
        scores = torch.stack([feature.dot(centre) for centre in centres])
        loss = loss - statistic.discrimination * scores.log_softmax(0)[label]
    return loss.item(), torch.autograd.grad(loss, images)[0]


def test_loss_of_means_is_the_one_worked_by_hand():
    # Real mean (1, 0), synthetic (4, 4): 9 + 16 in each of two early layers (a tenth each),
    # the last (1) and the embedding (2): 25 * 3.2.
    real, small = pixels([(0, 0), (2, 0)], [0, 0]), pixels([(4, 4)], [0])
    assert pulled(MEANS, relus(), real, small)[0] == pytest.approx(80.0, rel=1e-12)


def test_gradient_of_means_is_the_one_worked_by_hand():
    # 3.2 |s - x|^2 with the mean s of two images: each has the slope 3.2 * 2 (3, 4) / 2.
    real, small = pixels([(0, 0), (2, 0)], [0, 0]), pixels([(3, 5), (5, 3)], [0, 0])
    _, gradient = pulled(MEANS, relus(), real, small)
    assert gradient.flatten(1).tolist() == [pytest.approx([9.6, 12.8], rel=1e-12)] * 2


def test_centres_classify_the_real_images():
    # Only the last term, times 2. Centres (1, 0) and (0, 1), real (log 3, 0) twice in class 0
    # and (0, 0) in class 1: probabilities of their own classes 3/4, 3/4 and 1/2.
    real = pixels([(log(3), 0), (log(3), 0), (0, 0)], [0, 0, 1])
    small = pixels([(1, 0), (0, 1)], [0, 1])
    statistic = AlignedFeatures(0.0, 0.0, 0.0, 2.0)
    loss, gradient = pulled(statistic, relus(), real, small)
    assert loss == pytest.approx(2 * (2 * log(4 / 3) + log(2)), rel=1e-12)
    # d/d(first centre) = 2 * sum_i (p_0 - [class 0]) x_i = 2 * 2 * (-1/4) (log 3, 0); the
    # second has the opposite, where its own pixel is not cut by ReLU.
    assert gradient[0].flatten().tolist() == pytest.approx([-log(3), 0.0], rel=1e-12)


def test_centres_that_are_equal_tell_nothing_apart():
    # Three real images at log 2, whatever they are.
    real = pixels([(5, 1), (2, 3), (1, 1)], [0, 1, 1])
    small = pixels([(1, 2), (1, 2)], [0, 1])
    loss, _ = pulled(AlignedFeatures(0.0, 0.0, 0.0, 1.0), relus(), real, small)
    assert loss == pytest.approx(3 * log(2), rel=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_loss_and_gradient_agree_with_the_naive_loop(rng, depth):
    network = fresh(ConvNet(3, depth), SHAPE, 3, rng).double()
    real, small = batch([0] * 4 + [1] * 2 + [2] * 3, rng), batch([0, 1, 1, 2], rng)
    statistic = AlignedFeatures(0.3, 0.7, 1.9, 0.4)
    ours, theirs = (way(statistic, network, real, small) for way in (pulled, naive))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("count", [64, 65, 130])
def test_chunks_of_the_real_side_do_not_show(rng, count):
    network = fresh(ConvNet(2, 2), SHAPE, 3, rng).double()
    real, small = batch([i % 3 for i in range(count)], rng), batch([0, 1, 2], rng)
    ours, theirs = (way(CAFE, network, real, small) for way in (pulled, naive))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


def test_a_network_without_maps_is_refused(rng):
    network, real = fresh(MLP(4, 2), SHAPE, 3, rng).double(), batch([0], rng)
    with pytest.raises(ValueError, match=r"^network must be a chain of .* take convnet$"):
        pulled(CAFE, network, real, real)


@pytest.mark.parametrize("name", [field.name for field in fields(AlignedFeatures)])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} must be >= 0, got -0\.5$"):
        replace(CAFE, **{name: -0.5})
