"""Instance normalisation agrees with torch's, and so do its first and second derivatives."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn import functional as F  # noqa: N812

from distill.instance_norm import InstanceNorm


@pytest.fixture
def norm(rng: torch.Generator) -> InstanceNorm:
    norm = InstanceNorm(3).double()
    with torch.no_grad():  # it starts at one and zero, which would hide them
        for parameter in norm.parameters():
            parameter.copy_(torch.randn(3, generator=rng))
    return norm


def naive(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The formula, in operations that torch differentiates as often as asked."""
    centred = maps - maps.mean((2, 3), keepdim=True)
    normal = centred / (centred.square().mean((2, 3), keepdim=True) + 1e-5).sqrt()
    return normal * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)


def maps_of(rng: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()


def test_a_map_by_hand():
    norm = InstanceNorm(1)
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(1.0)
    # mean 2, deviations -2, 0, 2, 0, variance 2: -sqrt(2), 0, sqrt(2), 0, doubled, plus one
    found = norm(torch.tensor([[[[0.0, 2.0], [4.0, 2.0]]]])).flatten()
    expected = torch.tensor([1 - 8**0.5, 1.0, 1 + 8**0.5, 1.0])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_it_agrees_with_torch(rng, norm):
    maps = maps_of(rng, 2, 3, 4, 5)
    expected = F.instance_norm(maps, weight=norm.weight, bias=norm.bias, eps=1e-5)
    torch.testing.assert_close(norm(maps), expected)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 2, 2), (2, 3, 1, 1)], ids=str)
def test_second_derivatives_agree_with_the_formula(rng, norm, shape):
    maps, slope = maps_of(rng, *shape), maps_of(rng, *shape)
    leaves = (maps, norm.weight, norm.bias)
    seen = []
    for forward in (norm, lambda maps: naive(maps, norm.weight, norm.bias)):
        first = torch.autograd.grad(forward(maps), leaves, slope, create_graph=True)
        product = sum((part**2).sum() + part.sum() for part in first)  # every output counts
        seen.append([*first, *torch.autograd.grad(product, (slope, maps, norm.weight))])
    for found, expected in zip(*seen, strict=True):
        torch.testing.assert_close(found, expected)


def test_second_derivatives_agree_with_differences(rng, norm):
    def normalised(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return functional_call(norm, {"weight": weight, "bias": bias}, (maps,))

    leaves = (maps_of(rng, 2, 3, 2, 3), *(p.detach().requires_grad_() for p in norm.parameters()))
    assert torch.autograd.gradcheck(normalised, leaves)
    assert torch.autograd.gradgradcheck(normalised, leaves)


def test_many_normalise_side_by_side_as_alone(rng, norm):
    maps = maps_of(rng, 4, 2, 3, 4, 5)
    weights = {"weight": torch.randn(4, 3).double(), "bias": torch.randn(4, 3).double()}
    found = vmap(lambda w, x: functional_call(norm, w, (x,)))(weights, maps)
    for index in range(4):
        alone = functional_call(norm, {k: w[index] for k, w in weights.items()}, (maps[index],))
        torch.testing.assert_close(found[index], alone)


def test_a_third_derivative_is_refused(rng, norm):
    maps = maps_of(rng, 2, 3, 4, 5)
    (first,) = torch.autograd.grad(norm(maps).square().sum(), maps, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), maps, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        second.sum().backward()
