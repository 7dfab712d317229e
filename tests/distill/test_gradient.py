"""Gradient matching agrees with arithmetic and with back-propagating the explicit loss."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.networks import MLP, ConvNet, Network, fresh
from distill.objectives.gradient import GradientMatching, cosine_distance
from distill.pullback import EVERYTHING, IMAGES, gradient, pullback, weights_of
from distill.real import ClassBatch

SHAPE = (3, 8, 8)
LABELS = torch.tensor([0, 3, 4])  # rows of a batch are not classes
ALL = list(product(["cosine", "squared", "absolute"], ["all", "convolutions"]))
Pull = tuple[float, Tensor]


def convnet(rng: torch.Generator) -> Network:
    return fresh(ConvNet(3, 2), SHAPE, 5, rng).double()


def linear() -> Network:
    """Two classes by one layer of zeros: every image has probabilities (1/2, 1/2)."""
    network = Network(nn.Flatten(), 2, 2).double()
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    return network


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), LABELS[: max(groups) + 1])


def point(first: float, second: float) -> ClassBatch:
    image = torch.tensor([first, second], dtype=torch.float64).view(1, 1, 1, 2)
    return ClassBatch(image, torch.tensor([0]), torch.tensor([0]))


def pulled(network: Network, real: ClassBatch, synthetic: ClassBatch, *how: str) -> Pull:
    leaf = replace(synthetic, images=synthetic.images.detach().clone().requires_grad_())
    return GradientMatching(*how).pull(network, real, leaf, torch.Generator())


def naive_distance(ours: Tensor, theirs: Tensor, name: str) -> Tensor:
    """The papers' distances of one weight tensor, output by output."""
    total = ours.new_zeros(())
    for s, r in zip(ours, theirs, strict=True):
        if name == "cosine":
            dot = (s * r).sum()
            lengths = s.flatten().norm() * r.flatten().norm()
            total = total + 1 - dot / (lengths + 1e-6)
        elif name == "squared":
            total = total + (s - r).square().sum()
        else:
            total = total + (s - r).abs().sum()
    return total


def naive(
    network: Network, real: ClassBatch, small: ClassBatch, distance: str, layers: str
) -> Pull:
    """The explicit loss, back-propagated through the graph of all classes at once."""
    images = small.images.detach().clone().requires_grad_()
    least = {"all": 2, "convolutions": 4}[layers]
    weights = [p for p in network.parameters() if p.ndim >= least]
    loss = images.new_zeros(())
    for group, label in enumerate(real.labels.tolist()):
        x, s = real.images[real.groups == group], images[small.groups == group]
        of_real = F.cross_entropy(network(x), torch.full((len(x),), label))
        of_small = F.cross_entropy(network(s), torch.full((len(s),), label))
        theirs = torch.autograd.grad(of_real, weights)
        ours = torch.autograd.grad(of_small, weights, create_graph=True)
        for g_s, g_r in zip(ours, theirs, strict=True):
            loss = loss + naive_distance(g_s, g_r, distance)
    return loss.item(), torch.autograd.grad(loss, images)[0]


@pytest.mark.parametrize(
    ("distance", "loss", "slope"),
    [
        # By the two rows of the layer, an image x of class 0 has the gradients -x/2 and x/2. For
        # x = (1, 0) and s = (0, 1) each row has: no common direction, a slope of -x / |x||s|
        ("cosine", 2.0, [-2.0 / (1 + 4e-6), 0.0]),
        # |(1, -1) / 2|^2 = 1/2, with slope (s - x) / 2
        ("squared", 1.0, [-1.0, 1.0]),
        # 1/2 + 1/2, with slope sign(s - x) / 2
        ("absolute", 2.0, [-1.0, 1.0]),
    ],
)
def test_distances_of_a_linear_network_are_those_worked_by_hand(distance, loss, slope):
    found = pulled(linear(), point(1.0, 0.0), point(0.0, 1.0), distance, "all")
    assert found[0] == pytest.approx(loss, rel=1e-12)
    assert found[1].flatten().tolist() == pytest.approx(slope, rel=1e-12)


def test_the_cosine_is_taken_of_the_rows_that_feed_one_output():
    # Output 0: parallel rows, distance 0; output 1: opposite rows, distance 2. The whole
    # tensors would have the cosine (3 - 2) / sqrt(10 * 2).
    ours = torch.tensor([[3.0, 0.0], [0.0, 1.0]]).view(2, 1, 1, 2)
    theirs = torch.tensor([[1.0, 0.0], [0.0, -1.0]]).view(2, 1, 1, 2)
    assert cosine_distance(ours, theirs).item() == pytest.approx(2.0, abs=1e-5)


@pytest.mark.parametrize(("distance", "layers"), ALL)
def test_loss_and_gradient_are_those_of_the_explicit_loss(rng, distance, layers):
    network = convnet(rng)
    real, small = batch([0] * 5 + [1] * 3 + [2] * 4, rng), batch([0, 0, 1, 2, 2, 2], rng)
    ours = pulled(network, real, small, distance, layers)
    theirs = naive(network, real, small, distance, layers)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


def test_images_of_a_class_need_not_stand_together(rng):
    network, real, small = convnet(rng), batch([0, 1, 1, 0], rng), batch([1, 0, 1], rng)
    ours, theirs = (way(network, real, small, "cosine", "all") for way in (pulled, naive))
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


def test_a_network_without_convolutions_matches_its_linear_layers(rng):
    network = fresh(MLP(6, 2), SHAPE, 5, rng).double()
    real, small = batch([0, 0, 1], rng), batch([0, 1], rng)  # some units are dead: rows of zeros
    ours, theirs = (way(network, real, small, "cosine", "all") for way in (pulled, naive))
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-11)


def test_equal_sets_have_a_cosine_distance_of_nothing_but_epsilon(rng):
    # A row g is at 1 - g^2 / (g^2 + 1e-6) from itself, which is 1 for a row of zeros only.
    network, real = convnet(rng), batch([0, 0, 1], rng)
    loss, _ = pulled(network, real, real, "cosine", "convolutions")
    assert 0 < loss < 0.02


def test_repeated_images_change_nothing(rng):
    # The gradient of a mean does not know how often every image stands in it.
    network, real, small = convnet(rng), batch([0, 0, 1], rng), batch([0, 1], rng)
    twice = ClassBatch(small.images.repeat(2, 1, 1, 1), small.groups.repeat(2), small.labels)
    once, again = (pulled(network, real, s, "squared", "all") for s in (small, twice))
    assert again[0] == pytest.approx(once[0], rel=1e-9)
    torch.testing.assert_close(again[1][:2] + again[1][2:], once[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, 5])
@pytest.mark.parametrize("through", [EVERYTHING, IMAGES], ids=["everything", "images"])
def test_a_pullback_in_chunks_is_the_whole_one(rng, chunk, through):
    network, small = convnet(rng), batch([0] * 5, rng)
    weights, pair = weights_of(network), small.of_group(0)
    direction = gradient(network, weights, batch([0, 0], rng).of_group(0), list(weights)[::2])
    whole = pullback(network, weights, pair, direction, through)
    parts = pullback(network, weights, pair, direction, replace(through, chunk=chunk))
    torch.testing.assert_close(parts.images, whole.images, rtol=1e-9, atol=1e-12)
    assert parts.weights.keys() == whole.weights.keys()
    for name, slope in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], slope, rtol=1e-9, atol=1e-12)


def test_convolutions_of_a_network_without_any_are_refused(rng):
    network, real = fresh(MLP(4, 1), SHAPE, 5, rng).double(), batch([0], rng)
    message = r"^layers must be all for a network without convolutions, got convolutions$"
    with pytest.raises(ValueError, match=message):
        pulled(network, real, real, "cosine", "convolutions")


def test_an_unknown_distance_is_refused():
    message = r"^unknown distance 'l3'; known: absolute, cosine, squared$"
    with pytest.raises(ValueError, match=message):
        GradientMatching("l3", "all")


def test_unknown_layers_are_refused():
    with pytest.raises(ValueError, match=r"^unknown layers 'last'; known: all, convolutions$"):
        GradientMatching("cosine", "last")
