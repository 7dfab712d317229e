"""ResNet18 is the literature's at its sizes, and works on any image from 8x8."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torchvision.models import resnet

from distill.networks import Network, fresh, parameter_count
from distill.resnet import ResNet18

SHAPES = [(1, 8, 8), (3, 9, 70), (1, 28, 28), (3, 32, 32)]


@pytest.mark.parametrize(
    # entry 3 * 9 * 64 + 128 = 1,856 (grey: 1,152 fewer); stages:
    # 2 * (2 * 9 * 64^2 + 2 * 128) = 147,968
    # 9 * 64 * 128 + 3 * 9 * 128^2 + 64 * 128 + 5 * 256 = 525,568
    # 9 * 128 * 256 + 3 * 9 * 256^2 + 128 * 256 + 5 * 512 = 2,099,712
    # 9 * 256 * 512 + 3 * 9 * 512^2 + 256 * 512 + 5 * 1,024 = 8,393,728
    # and 512 * 10 + 10 = 5,130
    ("shape", "count"),
    [((3, 32, 32), 11_173_962), ((1, 28, 28), 11_172_810), ((3, 8, 8), 11_173_962)],
)
def test_full_width_has_the_parameters_of_the_literature(shape, count):
    with torch.device("meta"):  # shapes without memory
        assert parameter_count(ResNet18(64).build(shape, 10)) == count


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("width", [1, 3])
def test_every_image_size_gets_logits_for_every_class(rng, width, shape):
    network = fresh(ResNet18(width), shape, 7, rng)
    images = torch.randn(2, *shape, generator=rng)
    assert network.embed(images).shape == (2, 8 * width)
    assert network(images).shape == (2, 7)
    assert network(images).isfinite().all()


@pytest.mark.parametrize(
    # three strides that round up, and two on sides of 8
    ("shape", "last"),
    [
        ((1, 8, 8), (2, 2)),
        ((3, 9, 70), (2, 9)),
        ((1, 17, 17), (3, 3)),
        ((1, 28, 28), (4, 4)),
        ((3, 32, 32), (4, 4)),
        ((3, 64, 64), (8, 8)),
    ],
)
def test_last_maps_are_2x2_at_least(rng, shape, last):
    network = fresh(ResNet18(1), shape, 7, rng)
    maps = network.embedding[:-2](torch.zeros(1, *shape))
    assert maps.shape == (1, 8, *last)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_quarter_of_an_image_reaches_the_features(rng, shape):
    # A normalisation of 1x1 maps would cut all of them off.
    network = fresh(ResNet18(2), shape, 7, rng)
    images = torch.randn(8, *shape, generator=rng, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.embed(images).sin().sum(), images)
    for half in gradient.abs().sum(dim=(0, 1)).tensor_split(2):
        assert all(quarter.max() > 1e-6 for quarter in half.tensor_split(2, dim=1))


def test_on_8x8_the_first_stride_is_left_out(rng):
    network = fresh(ResNet18(1), (1, 8, 8), 7, rng)
    sides = [network.embedding[:end](torch.zeros(1, 1, 8, 8)).shape[2] for end in range(3, 12)]
    assert sides == [8, 8, 8, 8, 8, 4, 4, 2, 2]


def torchvision_network(channels: int, num_classes: int) -> nn.Module:
    """torchvision's ResNet18 with the small entry and instance normalisation."""
    layers = [2, 2, 2, 2]
    network = resnet.ResNet(
        resnet.BasicBlock, layers, num_classes, norm_layer=lambda width: nn.GroupNorm(width, width)
    )
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def test_full_width_agrees_with_torchvision(rng):
    network = fresh(ResNet18(64), (1, 28, 28), 5, rng)
    theirs = torchvision_network(1, 5)
    with torch.no_grad():
        for parameter, other in zip(network.parameters(), theirs.parameters(), strict=True):
            # norms start at one and zero, which would hide them
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.01)
            other.copy_(parameter)
        images = torch.randn(2, 1, 28, 28, generator=rng)
        torch.testing.assert_close(network(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_logits_of_an_image_do_not_depend_on_the_rest_of_the_batch(rng):
    network = fresh(ResNet18(2), (3, 8, 8), 5, rng)
    images = torch.randn(4, 3, 8, 8, generator=rng)
    torch.testing.assert_close(network(images[1:2]), network(images)[1:2])


def slope(network: Network, images: Tensor) -> Tensor:
    """The squared length of the loss's gradient on the weights, with its graph."""
    loss = network(images).logsumexp(1).sum()
    pieces = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    return sum(piece.square().sum() for piece in pieces)


def test_second_derivative_on_the_images_is_that_of_differences(rng):
    network = fresh(ResNet18(2), (3, 8, 8), 5, rng).double()
    images, way = torch.randn(2, 2, 3, 8, 8, generator=rng, dtype=torch.float64)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(slope(network, images), images, create_graph=True)
    # central differences; small enough a step that no ReLU switches
    ahead, behind = slope(network, images + 1e-6 * way), slope(network, images - 1e-6 * way)
    expected = (ahead - behind) / 2e-6
    torch.testing.assert_close((gradient * way).sum(), expected, rtol=1e-5, atol=1e-8)
    (third,) = torch.autograd.grad(gradient.square().sum(), images)
    assert third.isfinite().all()
    assert third.abs().max() > 0


def test_networks_train_side_by_side_as_alone(rng):
    networks = [fresh(ResNet18(2), (1, 8, 8), 5, rng).double() for _ in range(2)]
    images = torch.randn(3, 1, 8, 8, generator=rng, dtype=torch.float64)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(networks[0], weights, (images,)).logsumexp(1).sum()

    together = vmap(grad(loss))(stack_module_state(networks)[0])
    for index, network in enumerate(networks):
        alone = grad(loss)(dict(network.named_parameters()))
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name][index], gradient)


@pytest.mark.parametrize("shape", [(1, 7, 8), (3, 32, 4)])
def test_images_below_8_pixels_are_refused(shape):
    message = rf"^image sides must be >= 8 pixels, got {shape[1]}x{shape[2]}; enlarge the images"
    with pytest.raises(ValueError, match=message):
        ResNet18(2).build(shape, 3)


def test_widths_below_one_are_refused():
    with pytest.raises(ValueError, match=r"^network\.width must be >= 1, got 0$"):
        ResNet18(0)
    with pytest.raises(TypeError, match=r"^network\.width must be a whole number, got '4'$"):
        ResNet18("4")
