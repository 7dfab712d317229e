"""Networks have the literature's sizes and depend on their generator alone."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from distill.networks import MLP, ConvNet, Halve, fresh, parameter_count


@pytest.mark.parametrize(("shape", "parameters"), [((3, 32, 32), 320_010), ((1, 28, 28), 317_706)])
def test_convnet_has_the_published_number_of_parameters(shape, parameters):
    network = ConvNet(128, 3).build(shape, 10)
    assert parameter_count(network) == parameters
    assert network.embed(torch.zeros(1, *shape)).shape == (1, 2048)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 24), (1, 33, 9), (3, 64, 64)])
@pytest.mark.parametrize("architecture", [ConvNet(4, 3), MLP(4, 2)])
def test_any_size_from_8_pixels_up_runs(architecture, shape):
    assert architecture.build(shape, 5)(torch.zeros(2, *shape)).shape == (2, 5)


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_halving_is_average_pooling(rng, size):
    maps = torch.randn(2, 3, *size, generator=rng)
    torch.testing.assert_close(Halve()(maps), F.avg_pool2d(maps, 2))


def test_weights_depend_on_the_generator_alone():
    state = torch.get_rng_state()
    first = fresh(MLP(4, 1), (1, 8, 8), 3, torch.Generator().manual_seed(5))
    assert torch.get_rng_state().equal(state)
    torch.rand(3)
    again = fresh(MLP(4, 1), (1, 8, 8), 3, torch.Generator().manual_seed(5))
    other = fresh(MLP(4, 1), (1, 8, 8), 3, torch.Generator().manual_seed(6))
    assert first.classifier.weight.equal(again.classifier.weight)
    assert not first.classifier.weight.equal(other.classifier.weight)


def test_too_many_halvings_are_refused():
    with pytest.raises(ValueError, match=r"network.depth must be <= 3 for images of 8x8, got 4"):
        ConvNet(4, 4).build((1, 8, 8), 10)
