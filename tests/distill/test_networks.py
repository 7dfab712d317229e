"""Networks have the sizes of the literature, take any image, and start from their rng alone."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.networks import MLP, Architecture, ConvNet, Halve, Network, fresh, parameter_count

SHAPES = [(1, 8, 8), (3, 8, 8), (1, 16, 24), (3, 16, 24), (1, 28, 28), (3, 32, 32), (3, 64, 64)]


def naive_features(network: Network, images: Tensor, depth: int, padding: int) -> Tensor:
    """ConvNet of the literature, from torch's functions."""
    weights = list(network.embedding.parameters())
    for block in range(depth):
        weight, bias, scale, shift = weights[4 * block : 4 * block + 4]
        images = F.conv2d(images, weight, bias, padding=padding if block == 0 else 1)
        images = F.instance_norm(images, weight=scale, bias=shift, eps=1e-5)
        images = F.avg_pool2d(images.relu(), 2)
    return images.flatten(1)


@pytest.mark.parametrize(
    # three convolutions 9 * c * 128 + 128, three norms of 256, 10 * 2,048 + 10
    ("shape", "count"),
    [((3, 32, 32), 320_010), ((1, 28, 28), 317_706)],
)
def test_convnet_has_the_parameters_of_the_literature(rng, shape, count):
    assert parameter_count(fresh(ConvNet(128, 3), shape, 10, rng)) == count


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28)])
def test_convnet_has_2048_features(rng, shape):
    network = fresh(ConvNet(128, 3), shape, 10, rng)
    assert network.embed(torch.zeros(1, *shape)).shape == (1, 2048)


def test_mlp_has_its_parameters(rng):
    # 64 * 5 + 5 = 325; 5 * 5 + 5 = 30; 5 * 3 + 3 = 18
    assert parameter_count(fresh(MLP(5, 2), (1, 8, 8), 3, rng)) == 373


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", [ConvNet(4, 3), ConvNet(2, 1), MLP(4, 2)], ids=str)
def test_every_image_size_gets_logits_for_every_class(rng, architecture, shape):
    network = fresh(architecture, shape, 7, rng)
    images = torch.randn(2, *shape, generator=rng)
    assert network(images).shape == (2, 7)
    assert network(images).isfinite().all()


@pytest.mark.parametrize(
    ("shape", "depth", "padding"),
    [((3, 16, 24), 3, 1), ((3, 9, 11), 2, 1), ((1, 28, 28), 3, 3), ((1, 32, 32), 3, 1)],
)
def test_convnet_agrees_with_torch_functions(rng, shape, depth, padding):
    network = fresh(ConvNet(6, depth), shape, 10, rng)
    with torch.no_grad():  # norms start at one and zero, which would hide them
        for parameter in network.embedding.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=rng))
    images = torch.randn(2, *shape, generator=rng)
    expected = naive_features(network, images, depth, padding)
    torch.testing.assert_close(network.embed(images), expected, rtol=1e-4, atol=1e-4)


def test_mlp_agrees_with_matrix_products(rng):
    network = fresh(MLP(5, 2), (1, 8, 8), 3, rng)
    first, bias, second, other_bias = network.embedding.parameters()
    images = torch.randn(4, 1, 8, 8, generator=rng)
    hidden = (images.view(4, 64) @ first.T + bias).clamp(min=0)
    expected = (hidden @ second.T + other_bias).clamp(min=0)
    torch.testing.assert_close(network.embed(images), expected)


@pytest.mark.parametrize("architecture", [ConvNet(4, 3), MLP(4, 2)], ids=str)
def test_logits_are_the_classifier_on_the_features(rng, architecture):
    network = fresh(architecture, (3, 8, 8), 5, rng)
    images = torch.randn(2, 3, 8, 8, generator=rng)
    expected = network.embed(images) @ network.classifier.weight.T + network.classifier.bias
    torch.testing.assert_close(network(images), expected)


def test_features_of_an_image_do_not_depend_on_the_rest_of_the_batch(rng):
    network = fresh(ConvNet(4, 3), (3, 8, 8), 5, rng)
    images = torch.randn(4, 3, 8, 8, generator=rng)
    torch.testing.assert_close(network.embed(images[1:2]), network.embed(images)[1:2])


@pytest.mark.parametrize(
    ("shape", "deepest"), [((3, 8, 8), 3), ((1, 28, 28), 5), ((3, 28, 28), 4), ((1, 8, 64), 3)]
)
def test_images_too_small_are_refused_with_the_depth_that_fits(shape, deepest):
    ConvNet(2, deepest).build(shape, 3)
    size = rf"{shape[1]}x{shape[2]}"
    message = (
        rf"^convnet depth must be <= {deepest} for images of {size}, got {deepest + 1}; "
        r"lower network\.depth, or distiller\.depth, or take the MLP$"
    )
    with pytest.raises(ValueError, match=message):
        ConvNet(2, deepest + 1).build(shape, 3)


@pytest.mark.parametrize("kind", [ConvNet, MLP])
@pytest.mark.parametrize("field", ["width", "depth"])
def test_sizes_below_one_are_refused(kind, field):
    with pytest.raises(ValueError, match=rf"^network\.{field} must be >= 1, got 0$"):
        kind(**{"width": 4, "depth": 2, field: 0})
    with pytest.raises(TypeError, match=rf"^network\.{field} must be a whole number, got '4'$"):
        kind(**{"width": 4, "depth": 2, field: "4"})


def test_an_architecture_cannot_be_made_without_a_build():
    with pytest.raises(TypeError, match="abstract"):
        Architecture()


def test_halving_takes_the_mean_of_each_window():
    # (0 + 1 + 4 + 5) / 4 = 2.5 and (2 + 3 + 6 + 7) / 4 = 4.5
    maps = torch.arange(8.0).view(1, 1, 2, 4)
    assert Halve()(maps).tolist() == [[[[2.5, 4.5]]]]


@pytest.mark.parametrize("height", [2, 5, 8])
@pytest.mark.parametrize("width", [3, 6, 9])
def test_halving_equals_average_pooling(rng, height, width):
    maps = torch.randn(2, 3, height, width, generator=rng)
    torch.testing.assert_close(Halve()(maps), F.avg_pool2d(maps, 2))


def test_halving_has_the_gradient_of_average_pooling(rng):
    maps = torch.randn(2, 3, 5, 6, generator=rng, requires_grad=True)
    (ours,) = torch.autograd.grad(Halve()(maps).square().sum(), maps)
    (theirs,) = torch.autograd.grad(F.avg_pool2d(maps, 2).square().sum(), maps)
    torch.testing.assert_close(ours, theirs)


def weights(network: Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("architecture", [ConvNet(4, 2), MLP(4, 2)], ids=str)
def test_equal_generators_give_equal_networks(architecture):
    networks = []
    for _ in range(2):
        torch.rand(3)  # the global generator stands elsewhere the second time
        rng = torch.Generator().manual_seed(5)
        networks.append(fresh(architecture, (1, 8, 8), 3, rng))
    assert torch.equal(weights(networks[0]), weights(networks[1]))


def test_every_draw_from_a_generator_gives_another_network(rng):
    # A hundred of them, so that a small range of seeds would show.
    networks = {tuple(weights(fresh(MLP(1, 1), (1, 8, 8), 2, rng)).tolist()) for _ in range(100)}
    assert len(networks) == 100


def test_a_fresh_network_leaves_the_global_generator_as_it_was(rng):
    before = torch.get_rng_state()
    fresh(ConvNet(4, 2), (1, 8, 8), 3, rng)
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_uniform_within_torch_bounds(rng):
    # fan-in 3 * 9 = 27: uniform within 1 / sqrt(27), whose mean square is 1 / 27 / 3
    first = next(fresh(ConvNet(128, 1), (3, 8, 8), 3, rng).parameters()).detach()
    assert first.abs().max() <= 27**-0.5
    assert first.square().mean().item() == pytest.approx(1 / 81, rel=0.05)
