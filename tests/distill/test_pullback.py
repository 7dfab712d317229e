"""The pullback is the derivative of a gradient's product with a direction, in every argument."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from distill.networks import ConvNet
from distill.pullback import (
    EVERYTHING,
    IMAGES,
    Through,
    check_alike,
    gradient,
    pullback,
    traced_gradient,
    weights_of,
)


class Line(nn.Module):
    """One weight a class: the logits of x are (w_0 x, w_1 x)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) * self.weight


@pytest.fixture
def network(rng) -> nn.Module:
    network = ConvNet(3, 2).build((1, 8, 8), 3).double()
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=rng) * 0.5)
    return network


def batch_of(rng, count: int = 5) -> tuple[Tensor, Tensor]:
    images = torch.randn(count, 1, 8, 8, generator=rng, dtype=torch.float64)
    return images, torch.randint(3, (count,), generator=rng)


def directions(network: nn.Module, rng) -> dict[str, Tensor]:
    return {
        name: torch.randn(weight.shape, generator=rng, dtype=torch.float64)
        for name, weight in network.named_parameters()
    }


def naive(network, weights, images, targets, direction) -> Tensor:
    """The product, from the definition, with the graph of everything."""
    loss = F.cross_entropy(functional_call(network, weights, (images,)), targets)
    slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    return sum((slope * direction[name]).sum() for name, slope in zip(weights, slopes, strict=True))


def test_a_traced_gradient_is_the_gradient_and_pulls_back_as_the_pullback_does(network, rng):
    weights, batch, by = weights_of(network), batch_of(rng), list(weights_of(network))[1::2]
    v = {name: part for name, part in directions(network, rng).items() if name in by}
    slopes, pulled = traced_gradient(network, weights, batch, by)
    wanted = gradient(network, weights, batch, by)
    assert list(slopes) == by
    assert all(slopes[name].equal(wanted[name]) for name in by)
    assert pulled(v).equal(pullback(network, weights, batch, v, IMAGES).images)


def test_agrees_with_arithmetic():
    # At w = 0 both classes have probability 1/2, so for class 0 the gradient is (-x/2, x/2), and
    # along v = (1, 3) the product is x: slope 1 in x. By w_0: d/dw_0 of p_0 x is x^2 / 4, and
    # of p_1 x it is -x^2 / 4, so along v: x^2 (1 - 3) / 4 = -2 at x = 2; by w_1: +2.
    x = torch.tensor([[2.0]], dtype=torch.float64)
    direction = {"weight": torch.tensor([1.0, 3.0], dtype=torch.float64)}
    line = Line()
    slopes = gradient(line, weights_of(line), (x, torch.tensor([0])), ["weight"])
    pulled = pullback(line, weights_of(line), (x, torch.tensor([0])), direction)
    assert slopes["weight"].tolist() == [-1.0, 1.0]
    assert pulled.images.item() == pytest.approx(1.0)
    assert pulled.weights["weight"].tolist() == pytest.approx([-2.0, 2.0])


def test_agrees_with_autograd_of_the_whole_product(network, rng):
    images, targets = batch_of(rng)
    direction = directions(network, rng)
    weights = {name: w.requires_grad_() for name, w in weights_of(network).items()}
    leaf = images.clone().requires_grad_()
    product = naive(network, weights, leaf, targets, direction)
    expected = torch.autograd.grad(product, [leaf, *weights.values()], materialize_grads=True)
    pulled = pullback(network, weights_of(network), (images, targets), direction)
    torch.testing.assert_close(pulled.images, expected[0], rtol=1e-9, atol=1e-12)
    for found, wanted in zip(pulled.weights.values(), expected[1:], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_agrees_with_finite_differences(network, rng):
    images, targets = batch_of(rng, 2)
    direction = directions(network, rng)
    weights = {name: w.requires_grad_() for name, w in weights_of(network).items()}
    pulled = pullback(network, weights, (images, targets), direction, IMAGES)
    nudge = torch.randn(images.shape, generator=rng, dtype=torch.float64)
    up, down = (
        naive(network, weights, images + sign * 1e-5 * nudge, targets, direction).item()
        for sign in (1, -1)
    )
    assert (pulled.images * nudge).sum().item() == pytest.approx((up - down) / 2e-5, rel=1e-6)


def test_distributions_get_a_gradient_and_classes_none(network, rng):
    images, targets = batch_of(rng)
    soft = F.one_hot(targets, 3).double().requires_grad_()
    direction, weights = directions(network, rng), weights_of(network)
    leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
    (expected,) = torch.autograd.grad(naive(network, leaves, images, soft, direction), soft)
    pulled = pullback(network, weights, (images, soft.detach()), direction)
    torch.testing.assert_close(pulled.targets, expected, rtol=1e-9, atol=1e-12)
    assert pullback(network, weights, (images, targets), direction).targets is None


@pytest.mark.parametrize("chunk", [1, 2, 5, 9])
def test_chunks_change_nothing(network, rng, chunk):
    images, targets = batch_of(rng)
    soft, direction = F.one_hot(targets, 3).double(), directions(network, rng)
    weights = weights_of(network)
    whole = pullback(network, weights, (images, soft), direction)
    cut = pullback(network, weights, (images, soft), direction, Through(True, chunk))
    torch.testing.assert_close(cut.images, whole.images, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(cut.targets, whole.targets, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(cut.weights), dict(whole.weights), rtol=1e-9, atol=1e-12)


def test_a_weight_left_out_of_the_direction_counts_as_zero(network, rng):
    batch, direction = batch_of(rng), directions(network, rng)
    name = "classifier.weight"
    zeroed = {n: v if n == name else v * 0 for n, v in direction.items()}
    alone = pullback(network, weights_of(network), batch, {name: direction[name]})
    padded = pullback(network, weights_of(network), batch, zeroed)
    torch.testing.assert_close(alone.images, padded.images, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dict(alone.weights), dict(padded.weights), rtol=1e-9, atol=1e-12)


def test_nothing_is_left_on_the_network(network, rng):
    before = weights_of(network)
    pulled = pullback(network, weights_of(network), batch_of(rng), directions(network, rng), IMAGES)
    assert pulled.weights == {}
    assert all(weight.grad is None for weight in network.parameters())
    torch.testing.assert_close(weights_of(network), before, rtol=0, atol=0)


def test_everything_and_images_differ_in_weights_alone():
    assert replace(EVERYTHING, weights=False) == IMAGES


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"classifier.bias": torch.zeros(7)}, r"\(7,\) for classifier\.bias, which has \(3,\)"),
        ({"extra": torch.zeros(2)}, r"\(2,\) for extra, which has no place"),
    ],
)
def test_weights_of_another_architecture_are_refused_with_what_to_choose(network, change, reason):
    own = weights_of(network)
    check_alike("here", own, network)
    message = (
        rf"^weights given to here must be those of here\.architecture, got {reason}; "
        r"give distiller the network's choice$"
    )
    with pytest.raises(ValueError, match=message):
        check_alike("here", own | change, network)
    with pytest.raises(ValueError, match=r"got nothing for embedding\.0\.bias, which has"):
        check_alike("here", {k: w for k, w in own.items() if k != "embedding.0.bias"}, network)
