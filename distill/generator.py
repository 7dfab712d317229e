r"""A small generator of images of given classes, and the encoder that finds its latents.

The generator :math:`g` maps a latent :math:`z` and a class :math:`y` to an image; the encoder
:math:`\mu` maps an image and its class to its latent. Both are fitted as a variational
autoencoder, whose latents have noise of a constant deviation :math:`\tau` and whose pixels
share the variance that the batch's error shows: over images of :math:`P` pixels,

.. math:: L = \frac{1}{2} \log\Big( \frac{1}{P} \mathbb{E} \|x - g(z, y)\|_2^2 \Big)
    + \frac{1}{2P}\, \mathbb{E} \|\mu(x, y)\|_2^2 ,
    \qquad z = \mu(x, y) + \tau \epsilon, \; \epsilon \sim N(0, I) ,

so that near latents give near images, latents stay of about unit scale, and no weight stands
between the two terms. The generator's steps are

    1. a linear layer maps :math:`z`, beside the class as one of C, to the first maps, at a
       quarter of the resolution;
    2. nearest-neighbour doubling, a 3x3 convolution, ReLU; the same again at full size;
    3. a 3x3 convolution to normalised pixels, which nothing squashes;
    4. the mean image of the class is added, as the encoder has subtracted it.

Without 4 the latent could tell the class, and the generator ignore the one that it is given.

References:
    | Auto-Encoding Variational Bayes (Kingma and Welling, ICLR 2014)
    | https://arxiv.org/abs/1312.6114
    | Semi-Supervised Learning with Deep Generative Models (Kingma, Rezende, Mohamed and
    | Welling, NeurIPS 2014), https://arxiv.org/abs/1406.5298, whose M2 is given the class
    | From Variational to Deterministic Autoencoders (Ghosh et al., ICLR 2020)
    | https://arxiv.org/abs/1903.12436, for the constant noise
    | Simple and Effective VAE Training with Calibrated Decoders (Rybkin, Daniilidis and
    | Levine, ICML 2021), https://arxiv.org/abs/2006.13202, for the shared variance

Differences from the papers: the networks are small, convolutional and without normalisation,
to be fitted on a CPU in about a minute; class means are subtracted and added; the variance has
a floor, so that the logarithm stays finite; every label is known.
"""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.checks import positive, whole
from distill.images import LabelledImages
from distill.networks import Halve
from distill.rng import global_stream
from distill.tensor_file import read_tensors

logger = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]
Shape = tuple[int, ...]

FLOOR = 1e-5  # of the variance: what rounding to 8 bits costs where pixels deviate by 0.35
TAU = 0.1  # with none, unseen FashionMNIST has an error of 0.090 instead of 0.094


@final
@dataclass(frozen=True)
class Generator:
    """What a generator is made of, and how it is fitted.

    Attributes:
        latent: J, the numbers of a latent, >= 1.
        maps: Channels of the first maps, >= 1.
        channels: Channels of each convolution, of the encoder too, >= 1.
        steps: Steps of Adam, >= 1.
        batch: Images a step, drawn with replacement, >= 1.
        learning_rate: Step size, > 0.
    """

    latent: int
    maps: int
    channels: int
    steps: int
    batch: int
    learning_rate: float

    def __post_init__(self) -> None:
        whole("generator latent", self.latent, 1)
        whole("generator maps", self.maps, 1)
        whole("generator channels", self.channels, 1)
        whole("generator steps", self.steps, 1)
        whole("generator batch", self.batch, 1)
        positive("generator learning_rate", self.learning_rate)


def maps_shape(maps: int, image_shape: Shape) -> Shape:
    """Returns the shape of the first maps: a quarter of the resolution, rounded up.

    >>> maps_shape(8, (3, 9, 12))
    (8, 3, 3)
    """
    _, height, width = image_shape
    return maps, -(-height // 4), -(-width // 4)


def latents(weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    r"""Returns the latents :math:`\mu`, ``(N, J)``, of normalised images ``(N, C, H, W)``."""
    halve, maps = Halve(), images - weights["means"][labels]
    for layer in range(2):
        maps = halve(_convolution(weights, f"encoder.{layer}", maps).relu())
    return _linear(weights, "encoder.2", _beside_class(weights, maps.flatten(1), labels))


def first_maps(weights: Weights, z: Tensor, labels: Tensor, image_shape: Shape) -> Tensor:
    """Returns the first maps, ``(N, maps, H / 4, W / 4)``; differentiable.

    Args:
        weights: Those of :func:`fit_generator`.
        z: Latents, ``(N, J)``.
        labels: Their classes, int64 ``(N,)``.
        image_shape: (C, H, W).
    """
    flat = _linear(weights, "generator.0", _beside_class(weights, z, labels))
    return flat.view(len(z), -1, *maps_shape(0, image_shape)[1:])


def images_of(weights: Weights, maps: Tensor, labels: Tensor, image_shape: Shape) -> Tensor:
    """Returns the images ``(N, C, H, W)`` of first maps, normalised; differentiable."""
    _, height, width = image_shape
    for layer, size in ((1, [-(-height // 2), -(-width // 2)]), (2, [height, width])):
        maps = F.interpolate(maps, size, mode="nearest")
        maps = _convolution(weights, f"generator.{layer}", maps).relu()
    return _convolution(weights, "generator.3", maps) + weights["means"][labels]


def variational_loss(weights: Weights, real: LabelledImages, noise: Tensor) -> Tensor:
    r"""Returns the scalar :math:`L`, differentiable to the weights.

    Args:
        weights: Those of generator and encoder.
        real: Normalised images of the batch.
        noise: :math:`\epsilon`, ``(N, J)``.
    """
    mu = latents(weights, real.images, real.labels)
    maps = first_maps(weights, mu + TAU * noise, real.labels, real.image_shape)
    made = images_of(weights, maps, real.labels, real.image_shape)
    error = (real.images - made).square().mean() + FLOOR
    return (error.log() + mu.square().sum(1).mean() / math.prod(real.image_shape)) / 2


def fit_generator(
    generator: Generator, real: LabelledImages, rng: torch.Generator
) -> dict[str, Tensor]:
    """Returns the weights of a generator and its encoder, of the images' type and device.

    Args:
        generator: Sizes and steps.
        real: Normalised images to learn from, at least one.
        rng: Draws first weights, batches and noise; nothing else decides the result.

    Raises:
        ValueError: If there is no image.
        FloatingPointError: If the loss isn't finite in the end.
    """
    if len(real) == 0:
        raise ValueError("real must hold at least one image, got none")
    weights, loss = _first_weights(generator, real, rng), torch.zeros(())
    moved = [value for value in weights.values() if value.requires_grad]
    optimiser = torch.optim.Adam(moved, lr=generator.learning_rate)
    for _ in range(generator.steps):
        batch = real.rows(torch.randint(len(real), (generator.batch,), generator=rng))
        noise = torch.randn(generator.batch, generator.latent, generator=rng)
        loss = variational_loss(weights, batch, noise.to(real.images))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    _check_finite(loss.item(), generator)
    logger.info("generator fitted to %d images, loss %.4f", len(real), loss.item())
    return {name: value.detach() for name, value in weights.items()}


def save_generator(
    path: Path, weights: Weights, generator: Generator, image_shape: Shape, num_classes: int
) -> None:
    """Writes a safetensors file: the weights, and as JSON what they are for."""
    tensors = {name: value.float().cpu().contiguous() for name, value in weights.items()}
    facts = _facts(generator, image_shape, num_classes)
    save_file(tensors, path, {name: json.dumps(value) for name, value in facts.items()})


def load_generator(
    path: Path, generator: Generator, image_shape: Shape, num_classes: int
) -> dict[str, Tensor]:
    """Returns the float32 weights that :func:`save_generator` wrote.

    The file doesn't know under which normalisation its images were seen, nor what its classes
    are: both must be those of the images that are wanted.

    Raises:
        ValueError: If the file isn't there, or is of another generator, image shape or number of
            classes, or a weight is not finite.
    """
    tensors, metadata = read_tensors("generator path", path)
    weights = {name: value.float() for name, value in tensors.items()}
    for name, value in _facts(generator, image_shape, num_classes).items():
        found = json.loads(metadata.get(name, "null"))
        if found != value:
            raise ValueError(
                f"generator {name} must be {value}, got {found} in {path}; "
                "name another file, or none to fit one"
            )
    _check_shapes(path, weights, _layers(generator, image_shape, num_classes, "meta"))
    return weights


def _facts(generator: Generator, image_shape: Shape, num_classes: int) -> dict[str, object]:
    return {
        "latent": generator.latent,
        "maps": generator.maps,
        "channels": generator.channels,
        "image_shape": list(image_shape),
        "num_classes": num_classes,
    }


def _check_shapes(path: Path, weights: Weights, layers: nn.ModuleDict) -> None:
    needed = {name: tuple(value.shape) for name, value in layers.state_dict().items()}
    for name in sorted(needed.keys() | weights.keys()):
        found = tuple(weights[name].shape) if name in weights else None
        if found != needed.get(name):
            raise ValueError(
                f"generator weights {name} must have shape {needed.get(name)}, "
                f"got {found} in {path}; name another file, or none to fit one"
            )
        if not weights[name].isfinite().all():
            raise ValueError(
                f"generator weights {name} must be finite, got NaN or infinity in {path}; "
                "name another file, or none to fit one"
            )


def _check_finite(loss: float, generator: Generator) -> None:
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"the generator's loss must stay finite, got {loss}; "
            f"lower generator learning_rate, now {generator.learning_rate}"
        )


def _layers(
    generator: Generator, image_shape: Shape, num_classes: int, device: str
) -> nn.ModuleDict:
    """Returns layers that hold the weights and the class means, which start as zero."""
    (colours, height, width), wide = image_shape, generator.channels
    features = wide * (height // 4) * (width // 4) + num_classes
    first = maps_shape(generator.maps, image_shape)
    with torch.device(device):
        mu = nn.Linear(features, generator.latent)
        encoder = [nn.Conv2d(colours, wide, 3), nn.Conv2d(wide, wide, 3), mu]
        linear = nn.Linear(generator.latent + num_classes, math.prod(first))
        sizes = [(generator.maps, wide), (wide, wide), (wide, colours)]
        convolutions = [nn.Conv2d(entering, leaving, 3) for entering, leaving in sizes]
        means = torch.zeros(num_classes, *image_shape)
    decoder = nn.ModuleList([linear, *convolutions])
    layers = nn.ModuleDict({"encoder": nn.ModuleList(encoder), "generator": decoder})
    layers.register_buffer("means", means)
    return layers


def _first_weights(
    generator: Generator, real: LabelledImages, rng: torch.Generator
) -> dict[str, Tensor]:
    seed = int(torch.randint(2**62, (1,), generator=rng).item())
    with global_stream(seed):
        layers = _layers(generator, real.image_shape, real.num_classes, "cpu")
    weights = {name: value.to(real.images) for name, value in layers.named_parameters()}
    started = {name: value.detach().requires_grad_() for name, value in weights.items()}
    return {**started, "means": _class_means(real)}


def _class_means(real: LabelledImages) -> Tensor:
    """Returns the mean image of each class, zero where it has none."""
    means = real.images.new_zeros(real.num_classes, *real.image_shape)
    for label in real.counts.nonzero().flatten().tolist():
        means[label] = real.of_class(label).mean(0)
    return means


def _beside_class(weights: Weights, rows: Tensor, labels: Tensor) -> Tensor:
    return torch.cat([rows, F.one_hot(labels, len(weights["means"])).to(rows)], 1)


def _linear(weights: Weights, name: str, rows: Tensor) -> Tensor:
    return F.linear(rows, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _convolution(weights: Weights, name: str, maps: Tensor) -> Tensor:
    return F.conv2d(maps, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)
