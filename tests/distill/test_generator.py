"""The generator computes what its steps say, learns, and is read back only where it fits."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.generator import (
    Generator,
    first_maps,
    fit_generator,
    images_of,
    latents,
    load_generator,
    maps_shape,
    save_generator,
    variational_loss,
)
from distill.images import LabelledImages

SMALL = Generator(latent=3, maps=2, channels=4, steps=2, batch=5, learning_rate=0.003)
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 9, 12)]


def images_like(shape: tuple[int, int, int], rng: torch.Generator) -> LabelledImages:
    images = torch.randn(12, *shape, generator=rng, dtype=torch.float64)
    return LabelledImages(images, torch.arange(12) % 4, 4)


def naive_convolution(maps: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    """The definition of a 3x3 convolution over maps with a border of zeros."""
    kernel, (height, width) = weights[f"{name}.weight"], maps.shape[2:]
    padded = maps.new_zeros(*maps.shape[:2], height + 2, width + 2)
    padded[:, :, 1:-1, 1:-1] = maps
    result = weights[f"{name}.bias"].view(1, -1, 1, 1).repeat(len(maps), 1, height, width)
    for row in range(3):
        for column in range(3):
            part = padded[:, :, row : row + height, column : column + width]
            result += torch.einsum("nihw,oi->nohw", part, kernel[:, :, row, column])
    return result


def naive_nearest(maps: Tensor, height: int, width: int) -> Tensor:
    rows = [i * maps.shape[2] // height for i in range(height)]
    columns = [i * maps.shape[3] // width for i in range(width)]
    return maps[:, :, rows][:, :, :, columns]


def naive_image(weights: dict[str, Tensor], z: Tensor, label: int, shape) -> Tensor:
    """Steps 1 to 4 of the module's docstring for one latent."""
    _, height, width = shape
    one_of_four = torch.zeros(4, dtype=z.dtype)
    one_of_four[label] = 1
    weight, bias = weights["generator.0.weight"], weights["generator.0.bias"]
    flat = weight @ torch.cat([z, one_of_four]) + bias
    maps = flat.reshape(1, 2, (height + 3) // 4, (width + 3) // 4)
    maps = naive_nearest(maps, (height + 1) // 2, (width + 1) // 2)
    maps = naive_convolution(maps, weights, "generator.1").clamp(min=0)
    maps = naive_nearest(maps, height, width)
    maps = naive_convolution(maps, weights, "generator.2").clamp(min=0)
    return naive_convolution(maps, weights, "generator.3")[0] + weights["means"][label]


def naive_latent(weights: dict[str, Tensor], image: Tensor, label: int) -> Tensor:
    maps = (image - weights["means"][label]).unsqueeze(0)
    for name in ("encoder.0", "encoder.1"):
        maps = naive_convolution(maps, weights, name).clamp(min=0)
        maps = torch.nn.functional.avg_pool2d(maps, 2)
    one_of_four = torch.zeros(4, dtype=image.dtype)
    one_of_four[label] = 1
    features = torch.cat([maps.flatten(), one_of_four])
    return weights["encoder.2.weight"] @ features + weights["encoder.2.bias"]


@pytest.mark.parametrize("shape", SHAPES)
def test_images_agree_with_the_naive_steps(rng, shape):
    real = images_like(shape, rng)
    weights = fit_generator(SMALL, real, rng)
    z, labels = torch.randn(3, 3, generator=rng, dtype=torch.float64), torch.tensor([2, 0, 3])
    made = images_of(weights, first_maps(weights, z, labels, shape), labels, shape)
    naive = [naive_image(weights, *pair, shape) for pair in zip(z, [2, 0, 3], strict=True)]
    torch.testing.assert_close(made, torch.stack(naive))


@pytest.mark.parametrize("shape", SHAPES)
def test_latents_agree_with_the_naive_encoder(rng, shape):
    real = images_like(shape, rng)
    weights = fit_generator(SMALL, real, rng)
    pairs = zip(real.images, real.labels.tolist(), strict=True)
    naive = torch.stack([naive_latent(weights, *pair) for pair in pairs])
    torch.testing.assert_close(latents(weights, real.images, real.labels), naive)


def test_loss_agrees_with_a_loop_over_images(rng):
    real = images_like((1, 8, 8), rng)
    weights = fit_generator(SMALL, real, rng)
    noise = torch.randn(12, 3, generator=rng, dtype=torch.float64)
    error, length = 0.0, 0.0
    for image, label, epsilon in zip(real.images, real.labels.tolist(), noise, strict=True):
        mu = naive_latent(weights, image, label)
        made = naive_image(weights, mu + 0.1 * epsilon, label, (1, 8, 8))
        error += ((image - made) ** 2).sum().item() / 64 / 12
        length += (mu**2).sum().item() / 64 / 12
    expected = (math.log(error + 1e-5) + length) / 2
    assert variational_loss(weights, real, noise).item() == pytest.approx(expected, rel=1e-12)


def test_first_maps_have_a_quarter_of_the_resolution_rounded_up():
    assert maps_shape(7, (1, 28, 28)) == (7, 7, 7)
    assert maps_shape(7, (3, 9, 12)) == (7, 3, 3)


def test_means_are_those_of_the_classes_and_zero_for_a_class_without_images(rng):
    images = torch.stack([torch.full((1, 8, 8), value) for value in (1.0, 3.0, 7.0)])
    real = LabelledImages(images, torch.tensor([0, 0, 2]), 3)
    means = fit_generator(SMALL, real, rng)["means"]
    assert [set(mean.flatten().tolist()) for mean in means] == [{2.0}, {0.0}, {7.0}]


def test_equal_seeds_give_equal_bytes_whatever_the_global_state(rng):
    real = images_like((1, 8, 8), rng)
    first = fit_generator(SMALL, real, torch.Generator().manual_seed(5))
    with torch.random.fork_rng(devices=[]):
        torch.rand(7)
        before = torch.get_rng_state()
        again = fit_generator(SMALL, real, torch.Generator().manual_seed(5))
        assert torch.equal(torch.get_rng_state(), before)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_other_seeds_give_other_weights(rng):
    real = images_like((1, 8, 8), rng)
    first, other = (fit_generator(SMALL, real, rng) for _ in range(2))
    assert not torch.equal(first["generator.1.weight"], other["generator.1.weight"])


def test_fitting_lowers_the_error_below_that_of_the_class_mean(rng):
    # A bar of random brightness, whose place the class decides: one number tells the rest.
    labels = torch.arange(60) % 2
    images = torch.zeros(60, 1, 8, 8)
    images[labels == 0, :, :3] = torch.randn(30, 1, 1, 1, generator=rng)
    images[labels == 1, :, 4:7] = torch.randn(30, 1, 1, 1, generator=rng)
    real = LabelledImages(images, labels, 2)
    fitted = dataclasses.replace(SMALL, steps=150, batch=30, learning_rate=0.01)
    weights = fit_generator(fitted, real, rng)
    maps = first_maps(weights, latents(weights, images, labels), labels, real.image_shape)
    error = (images_of(weights, maps, labels, real.image_shape) - images).square().mean()
    assert error < 0.6 * (weights["means"][labels] - images).square().mean()


def test_weights_have_the_type_of_the_images_and_no_graph(rng):
    weights = fit_generator(SMALL, images_like((1, 8, 8), rng), rng)
    assert {value.dtype for value in weights.values()} == {torch.float64}
    assert not any(value.requires_grad for value in weights.values())


def test_no_images_are_refused(rng):
    none = LabelledImages(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), 2)
    with pytest.raises(ValueError, match="real must hold at least one image, got none"):
        fit_generator(SMALL, none, rng)


def test_a_step_size_that_diverges_is_told(rng):
    wild = dataclasses.replace(SMALL, learning_rate=1e300, steps=3)
    with pytest.raises(FloatingPointError, match=r"stay finite, got \w+; lower .* now 1e\+300"):
        fit_generator(wild, images_like((1, 8, 8), rng), rng)


@pytest.mark.parametrize("field", ["latent", "maps", "channels", "steps", "batch"])
def test_numbers_below_one_are_refused(field):
    with pytest.raises(ValueError, match=f"generator {field} must be >= 1, got 0"):
        dataclasses.replace(SMALL, **{field: 0})


def test_a_step_size_of_zero_is_refused():
    with pytest.raises(ValueError, match="generator learning_rate must be > 0, got 0"):
        dataclasses.replace(SMALL, learning_rate=0.0)


@pytest.fixture
def saved(rng, tmp_path) -> tuple[Path, dict[str, Tensor]]:
    real = images_like((3, 9, 12), rng)
    single = LabelledImages(real.images.float(), real.labels, 4)
    weights = fit_generator(SMALL, single, rng)
    save_generator(tmp_path / "g.safetensors", weights, SMALL, (3, 9, 12), 4)
    return tmp_path / "g.safetensors", weights


def test_what_is_saved_is_read_back(saved):
    path, weights = saved
    read = load_generator(path, SMALL, (3, 9, 12), 4)
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_how_it_was_fitted_does_not_matter_when_read(saved):
    path, weights = saved
    other = dataclasses.replace(SMALL, steps=9, batch=1, learning_rate=1.0)
    assert load_generator(path, other, (3, 9, 12), 4).keys() == weights.keys()


@pytest.mark.parametrize(
    ("generator", "shape", "classes", "message"),
    [
        (SMALL, (1, 28, 28), 4, r"image_shape must be \[1, 28, 28\], got \[3, 9, 12\]"),
        (SMALL, (3, 9, 12), 5, "num_classes must be 5, got 4"),
        (dataclasses.replace(SMALL, latent=4), (3, 9, 12), 4, "latent must be 4, got 3"),
        (dataclasses.replace(SMALL, maps=4), (3, 9, 12), 4, "maps must be 4, got 2"),
        (dataclasses.replace(SMALL, channels=8), (3, 9, 12), 4, "channels must be 8, got 4"),
    ],
)
def test_a_file_of_another_generator_is_refused(saved, generator, shape, classes, message):
    with pytest.raises(
        ValueError,
        match=f"^generator {message} in .*safetensors; name another file, or none to fit one$",
    ):
        load_generator(saved[0], generator, shape, classes)


def rewritten(path: Path, weights: dict[str, Tensor]) -> None:
    facts = {"latent": 3, "maps": 2, "channels": 4, "image_shape": [3, 9, 12], "num_classes": 4}
    save_file(weights, path, {name: json.dumps(value) for name, value in facts.items()})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("generator.3.bias", torch.zeros(2), r"\(3,\), got \(2,\)"),
        ("generator.3.bias", None, r"\(3,\), got None"),
        ("spread.bias", torch.zeros(3), r"None, got \(3,\)"),
    ],
)
def test_a_file_with_other_weights_is_refused(saved, name, value, message):
    path, _ = saved
    weights = {**load_file(path), name: value}
    rewritten(path, {key: kept for key, kept in weights.items() if kept is not None})
    with pytest.raises(
        ValueError,
        match=f"^generator weights {name} must have shape {message} in .*; name another file",
    ):
        load_generator(path, SMALL, (3, 9, 12), 4)


def test_a_file_without_metadata_is_refused(saved, tmp_path):
    save_file(load_file(saved[0]), tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="generator latent must be 3, got None in"):
        load_generator(tmp_path / "bare.safetensors", SMALL, (3, 9, 12), 4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_file_whose_weights_are_not_finite_is_refused(saved, value):
    path, _ = saved
    rewritten(path, load_file(path) | {"generator.3.bias": torch.tensor([0.0, value, 0.0])})
    with pytest.raises(
        ValueError, match=r"^generator weights generator\.3\.bias must be finite, got"
    ):
        load_generator(path, SMALL, (3, 9, 12), 4)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"^generator path must name a file that is there, got .*/g$"
    ):
        load_generator(tmp_path / "g", SMALL, (3, 9, 12), 4)
