"""Free pixels are the images themselves, and stay in range where asked."""

import pytest
import torch

from distill.images import Normalisation
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels

# black is (0 - .5) / .25 = -2, white is (1 - .5) / .25 = 2
HALF = Normalisation([0.5], [0.25])


@pytest.mark.parametrize("clip", [True, False])
def test_what_is_encoded_decodes_to_itself(rng, clip):
    images = torch.randn(3, 1, 8, 8, generator=rng)
    pixels = Pixels(clip)
    assert torch.equal(pixels.decode(pixels.encode(images)), images)


def test_parameters_do_not_share_memory_with_the_images(rng):
    images = torch.randn(3, 1, 8, 8, generator=rng)
    before = images.clone()
    Pixels(False).encode(images)["pixels"].zero_()
    assert torch.equal(images, before)


def test_every_number_is_one_pixel(rng):
    parameters = Pixels(False).encode(torch.randn(3, 1, 8, 8, generator=rng))
    assert sum(parameter.numel() for parameter in parameters.values()) == 192


def test_gradient_of_a_pixel_is_that_of_its_parameter(rng):
    images = torch.randn(3, 1, 8, 8, generator=rng)
    parameters = {"pixels": images.clone().requires_grad_()}
    weight = torch.randn(3, 1, 8, 8, generator=rng)
    (Pixels(True).decode(parameters) * weight).sum().backward()
    assert torch.equal(parameters["pixels"].grad, weight)


def test_clipping_moves_pixels_into_range_in_place():
    pixels = torch.tensor([-9.0, -1.0, 2.5]).view(1, 1, 1, 3).requires_grad_()
    Pixels(True).project_({"pixels": pixels}, HALF)
    assert pixels.flatten().tolist() == [-2.0, -1.0, 2.0]
    assert pixels.is_leaf
    assert pixels.requires_grad


def test_without_clipping_pixels_stay_where_they_are():
    pixels = torch.tensor([-9.0, -1.0, 2.5]).view(1, 1, 1, 3)
    Pixels(False).project_({"pixels": pixels}, HALF)
    assert pixels.flatten().tolist() == [-9.0, -1.0, 2.5]


def test_a_parameterisation_cannot_be_made_without_its_verbs():
    with pytest.raises(TypeError, match="abstract"):
        Parameterisation()
