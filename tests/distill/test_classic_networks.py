"""LeNet, AlexNet and VGG11 are the literature's at its sizes, and work on any image from 8x8."""

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F  # noqa: N812

from distill.classic_networks import VGG11, AlexNet, LeNet
from distill.networks import Network, fresh, parameter_count

SMALL = [LeNet(2), AlexNet(4), VGG11(2)]
SHAPES = [(1, 8, 8), (3, 9, 70), (1, 28, 28), (3, 28, 28), (3, 32, 32), (1, 64, 64)]


@pytest.mark.parametrize(
    ("architecture", "shape", "count"),
    [
        # 456 + 2,416 (two convolutions), 400 * 120 + 120, 120 * 84 + 84, 84 * 10 + 10
        (LeNet(6), (3, 32, 32), 62_006),
        # 2 * 6 * 25 = 300 fewer: one colour, and again 5x5 last maps
        (LeNet(6), (1, 28, 28), 61_706),
        # 9,728 + 614,592 + 442,624 + 442,560 + 331,968, and 192 * 4 * 4 * 10 + 10 = 30,730
        (AlexNet(128), (3, 32, 32), 1_872_202),
        # 2 * 128 * 25 = 6,400 fewer
        (AlexNet(128), (1, 28, 28), 1_865_802),
        # 1,792 + 73,856 + 295,168 + 590,080 + 1,180,160 + 3 * 2,359,808 (convolutions),
        # 2 * (64 + 128 + 2 * 256 + 4 * 512) = 5,504 (norms), 512 * 10 + 10 = 5,130
        (VGG11(64), (3, 32, 32), 9_231_114),
        # 2 * 64 * 9 = 1,152 fewer
        (VGG11(64), (1, 28, 28), 9_229_962),
    ],
    ids=str,
)
def test_full_width_has_the_parameters_of_the_literature(architecture, shape, count):
    with torch.device("meta"):  # shapes without memory
        assert parameter_count(architecture.build(shape, 10)) == count


@pytest.mark.parametrize(
    ("architecture", "features"),
    [
        # units 14 * 3; 12 channels of the last 1x1 maps; 8 * 2 channels of the last 1x1 maps
        (LeNet(3), 42),
        (AlexNet(8), 12),
        (VGG11(2), 16),
    ],
    ids=str,
)
def test_8x8_images_keep_one_place_at_least(rng, architecture, features):
    network = fresh(architecture, (1, 8, 8), 3, rng)
    assert network.embed(torch.zeros(1, 1, 8, 8)).shape == (1, features)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", [*SMALL, LeNet(1), AlexNet(1), VGG11(1)], ids=str)
def test_every_image_size_gets_logits_for_every_class(rng, architecture, shape):
    network = fresh(architecture, shape, 7, rng)
    logits = network(torch.randn(2, *shape, generator=rng))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", SMALL, ids=str)
def test_every_quarter_of_an_image_reaches_the_features(rng, architecture, shape):
    # A normalisation of 1x1 maps would cut all of them off.
    network = fresh(architecture, shape, 7, rng)
    images = torch.randn(8, *shape, generator=rng, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.embed(images).sin().sum(), images)
    for half in gradient.abs().sum(dim=(0, 1)).tensor_split(2):
        assert all(quarter.max() > 1e-6 for quarter in half.tensor_split(2, dim=1))


def randomised(network: Network, rng: torch.Generator) -> list[Tensor]:
    """Gives every parameter another value: norms start at one and zero, which would hide them."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5).add_(torch.randn(parameter.shape, generator=rng) * 0.1)
    return list(network.embedding.parameters())


@pytest.mark.parametrize(
    # padding of the two convolutions
    ("shape", "padding"),
    [((3, 32, 32), (0, 0)), ((1, 28, 28), (2, 0)), ((3, 14, 40), (2, 2)), ((1, 64, 31), (2, 0))],
)
def test_lenet_agrees_with_torch_functions(rng, shape, padding):
    network = fresh(LeNet(6), shape, 10, rng)
    weights = randomised(network, rng)
    images = maps = torch.randn(2, *shape, generator=rng)
    for block in range(2):
        maps = F.conv2d(maps, *weights[2 * block : 2 * block + 2], padding=padding[block])
        maps = F.max_pool2d(maps.relu(), 2)
    hidden = F.linear(maps.flatten(1), *weights[4:6]).relu()
    torch.testing.assert_close(network.embed(images), F.linear(hidden, *weights[6:8]).relu())


@pytest.mark.parametrize(("shape", "rim"), [((3, 32, 24), 0), ((1, 28, 28), 2), ((3, 28, 28), 0)])
def test_alexnet_agrees_with_torch_functions(rng, shape, rim):
    network = fresh(AlexNet(6), shape, 10, rng)
    weights = randomised(network, rng)
    images = torch.randn(2, *shape, generator=rng)
    maps = F.pad(images, [rim] * 4)
    for layer, padding in enumerate([2, 2, 1, 1, 1]):
        maps = F.conv2d(maps, *weights[2 * layer : 2 * layer + 2], padding=padding).relu()
        maps = F.max_pool2d(maps, 2) if layer in (0, 1, 4) else maps
    torch.testing.assert_close(network.embed(images), maps.flatten(1))


@pytest.mark.parametrize(
    # the layers, counted from 0, that a maximum follows
    ("shape", "rim", "maxima"),
    [
        ((3, 32, 40), 0, (0, 1, 3, 5, 7)),
        ((1, 28, 28), 2, (0, 1, 3, 5, 7)),
        ((3, 28, 28), 0, (1, 3, 5, 7)),
        ((3, 40, 16), 0, (1, 3, 5, 7)),
        ((3, 64, 31), 0, (1, 3, 5, 7)),
        ((3, 64, 72), 0, (0, 1, 3, 5, 7)),
        ((1, 15, 15), 0, (3, 5, 7)),
        ((1, 8, 64), 0, (3, 5, 7)),
    ],
)
def test_vgg11_agrees_with_torch_functions(rng, shape, rim, maxima):
    network = fresh(VGG11(2), shape, 10, rng)
    weights = randomised(network, rng)
    images = torch.randn(2, *shape, generator=rng)
    maps = F.pad(images, [rim] * 4)
    for layer in range(8):
        weight, bias, scale, shift = weights[4 * layer : 4 * layer + 4]
        maps = F.conv2d(maps, weight, bias, padding=1)
        maps = F.instance_norm(maps, weight=scale, bias=shift).relu()
        maps = F.max_pool2d(maps, 2) if layer in maxima else maps
    torch.testing.assert_close(network.embed(images), maps.flatten(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", SMALL, ids=str)
def test_logits_of_an_image_do_not_depend_on_the_rest_of_the_batch(rng, architecture):
    network = fresh(architecture, (3, 8, 8), 5, rng)
    images = torch.randn(4, 3, 8, 8, generator=rng)
    torch.testing.assert_close(network(images[1:2]), network(images)[1:2])


def slope(network: Network, images: Tensor) -> Tensor:
    """The squared length of the loss's gradient on the weights, with its graph."""
    loss = network(images).logsumexp(1).sum()
    pieces = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    return sum(piece.square().sum() for piece in pieces)


@pytest.mark.parametrize("architecture", SMALL, ids=str)
def test_second_derivative_on_the_images_is_that_of_differences(rng, architecture):
    network = fresh(architecture, (3, 8, 8), 5, rng).double()
    images, way = torch.randn(2, 2, 3, 8, 8, generator=rng, dtype=torch.float64)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(slope(network, images), images, create_graph=True)
    # central differences; small enough a step that no ReLU or maximum switches
    ahead, behind = slope(network, images + 1e-6 * way), slope(network, images - 1e-6 * way)
    expected = (ahead - behind) / 2e-6
    torch.testing.assert_close((gradient * way).sum(), expected, rtol=1e-5, atol=1e-8)
    (third,) = torch.autograd.grad(gradient.square().sum(), images)
    assert third.isfinite().all()
    assert third.abs().max() > 0


@pytest.mark.parametrize("architecture", SMALL, ids=str)
def test_networks_train_side_by_side_as_alone(rng, architecture):
    networks = [fresh(architecture, (1, 8, 8), 5, rng).double() for _ in range(2)]
    images = torch.randn(3, 1, 8, 8, generator=rng, dtype=torch.float64)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(networks[0], weights, (images,)).logsumexp(1).sum()

    together = vmap(grad(loss))(stack_module_state(networks)[0])
    for index, network in enumerate(networks):
        alone = grad(loss)(dict(network.named_parameters()))
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name][index], gradient)


@pytest.mark.parametrize("architecture", SMALL, ids=str)
@pytest.mark.parametrize("shape", [(1, 7, 8), (3, 32, 4)])
def test_images_below_8_pixels_are_refused(architecture, shape):
    message = rf"^image sides must be >= 8 pixels, got {shape[1]}x{shape[2]}; enlarge the images"
    with pytest.raises(ValueError, match=message):
        architecture.build(shape, 3)


@pytest.mark.parametrize("kind", [LeNet, AlexNet, VGG11])
def test_widths_below_one_are_refused(kind):
    with pytest.raises(ValueError, match=r"^network\.width must be >= 1, got 0$"):
        kind(0)
    with pytest.raises(TypeError, match=r"^network\.width must be a whole number, got '4'$"):
        kind("4")
