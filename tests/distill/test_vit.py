"""The vision transformer agrees with torchvision's, differentiates twice, and takes any image."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torchvision.models.vision_transformer import VisionTransformer

from distill.networks import Network, fresh, parameter_count
from distill.vit import ViT

SMALL = ViT(patch=4, width=12, depth=2, heads=3)
SHAPES = [(1, 8, 8), (3, 9, 70), (1, 28, 28), (3, 32, 32), (1, 3, 3)]


@pytest.mark.parametrize(
    ("architecture", "shape", "classes", "count"),
    [
        # patches 16 * 12 + 12, class token 12, 5 positions of 12, two blocks of
        # 6 * 12^2 + 10 * 12 = 984, last norm 24, 12 * 5 + 5
        (SMALL, (1, 8, 8), 5, 2_333),
        # 48 * 512 + 512, 512, 65 * 512, six blocks of 6 * 512^2 + 10 * 512 = 1,577,984,
        # 1,024, 512 * 10 + 10
        (ViT(4, 512, 6, 8), (3, 32, 32), 10, 9_532_938),
    ],
)
def test_parameters_are_those_counted_by_hand(architecture, shape, classes, count):
    with torch.device("meta"):  # shapes without memory
        assert parameter_count(architecture.build(shape, classes)) == count


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("architecture", [SMALL, ViT(1, 1, 1, 1), ViT(7, 4, 1, 2)], ids=str)
def test_every_image_size_gets_logits_for_every_class(rng, architecture, shape):
    network = fresh(architecture, shape, 7, rng)
    images = torch.randn(2, *shape, generator=rng)
    assert network.embed(images).shape == (2, architecture.width)
    assert network(images).shape == (2, 7)
    assert network(images).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_agree_with_torchvision(rng, channels):
    network = fresh(SMALL, (channels, 12, 12), 5, rng)
    norm = partial(nn.LayerNorm, eps=1e-5)
    theirs = VisionTransformer(12, 4, 2, 3, 12, 12, num_classes=5, norm_layer=norm)
    theirs.conv_proj = nn.Conv2d(channels, 12, 4, stride=4)
    others = list(theirs.parameters())
    others.insert(1, others.pop(3))  # our positions come before the patches
    with torch.no_grad():
        for parameter, other in zip(network.parameters(), others, strict=True):
            # norms and biases start at one and zero, which would hide them
            parameter.add_(torch.randn(parameter.shape, generator=rng) * 0.3)
            other.copy_(parameter)
        images = torch.randn(4, channels, 12, 12, generator=rng)
        torch.testing.assert_close(network(images), theirs(images), rtol=1e-4, atol=1e-4)


def test_sides_that_are_no_multiples_of_the_patch_are_padded_by_zeros(rng):
    network = fresh(SMALL, (3, 9, 14), 5, rng)
    images = torch.randn(2, 3, 9, 14, generator=rng)
    larger = fresh(SMALL, (3, 12, 16), 5, rng)
    larger.load_state_dict(network.state_dict())
    padded = torch.zeros(2, 3, 12, 16)
    padded[:, :, :9, :14] = images
    torch.testing.assert_close(network(images), larger(padded))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_pixel_reaches_the_features(rng, shape):
    network = fresh(SMALL, shape, 7, rng)
    images = torch.randn(8, *shape, generator=rng, requires_grad=True)
    (gradient,) = torch.autograd.grad(network.embed(images).sin().sum(), images)
    assert gradient.abs().sum(dim=0).min() > 0


def test_positions_start_small_and_the_class_token_at_zero(rng):
    first = fresh(ViT(4, 64, 1, 1), (3, 32, 32), 5, rng).embedding[0]
    # 65 * 64 draws of a standard deviation of 0.02: its estimate is within 2 %, at two sigma
    assert first.positions.std().item() == pytest.approx(0.02, rel=0.05)
    assert first.positions.mean().item() == pytest.approx(0, abs=0.001)
    assert not first.class_token.any()


def test_logits_of_an_image_do_not_depend_on_the_rest_of_the_batch(rng):
    network = fresh(SMALL, (3, 8, 8), 5, rng)
    images = torch.randn(4, 3, 8, 8, generator=rng)
    torch.testing.assert_close(network(images[1:2]), network(images)[1:2])


def slope(network: Network, images: Tensor) -> Tensor:
    """The squared length of the loss's gradient on the weights, with its graph."""
    loss = network(images).logsumexp(1).sum()
    pieces = torch.autograd.grad(loss, list(network.parameters()), create_graph=True)
    return sum(piece.square().sum() for piece in pieces)


def test_second_derivative_on_the_images_is_that_of_differences(rng):
    network = fresh(SMALL, (3, 8, 8), 5, rng).double()
    images, way = torch.randn(2, 2, 3, 8, 8, generator=rng, dtype=torch.float64)
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(slope(network, images), images, create_graph=True)
    # central differences, whose error is of the order of the step squared
    ahead, behind = slope(network, images + 1e-5 * way), slope(network, images - 1e-5 * way)
    expected = (ahead - behind) / 2e-5
    torch.testing.assert_close((gradient * way).sum(), expected, rtol=1e-5, atol=1e-8)
    (third,) = torch.autograd.grad(gradient.square().sum(), images)
    assert third.isfinite().all()
    assert third.abs().max() > 0


def test_networks_train_side_by_side_as_alone(rng):
    networks = [fresh(SMALL, (1, 9, 9), 5, rng).double() for _ in range(2)]
    images = torch.randn(3, 1, 9, 9, generator=rng, dtype=torch.float64)

    def loss(weights: dict[str, Tensor]) -> Tensor:
        return functional_call(networks[0], weights, (images,)).logsumexp(1).sum()

    together = vmap(grad(loss))(stack_module_state(networks)[0])
    for index, network in enumerate(networks):
        alone = grad(loss)(dict(network.named_parameters()))
        for name, gradient in alone.items():
            torch.testing.assert_close(together[name][index], gradient)


@pytest.mark.parametrize("field", ["patch", "width", "depth", "heads"])
def test_sizes_below_one_are_refused(field):
    sizes = {"patch": 4, "width": 4, "depth": 1, "heads": 2}
    with pytest.raises(ValueError, match=rf"^network\.{field} must be >= 1, got 0$"):
        ViT(**{**sizes, field: 0})
    with pytest.raises(TypeError, match=rf"^network\.{field} must be a whole number, got '4'$"):
        ViT(**{**sizes, field: "4"})


def test_widths_that_heads_cannot_share_are_refused_with_one_that_fits():
    message = r"multiple of network\.heads, got 10 for 4 heads; take 12$"
    with pytest.raises(ValueError, match=rf"^network\.width must be a {message}"):
        ViT(4, 10, 1, 4)
    ViT(4, 12, 1, 4)
