r"""The networks that distil and that are evaluated: an embedding and a linear classifier.

ConvNet-D stacks D blocks of a 3x3 convolution (padding 1, bias), instance
normalisation (one affine group per channel), ReLU and a 2x2 average; a linear layer
reads the flattened last maps. Grey 28x28 images are padded by 3 in the first
convolution, which gives maps of 32x32; images of any other size keep theirs.

References:
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021)
    | https://arxiv.org/abs/2006.05929
    | Dynamic Few-Shot Visual Learning without Forgetting (Gidaris and Komodakis, CVPR 2018)

Differences from the paper: the 2x2 average is a matrix product, which is fast on a CPU in
both directions, as ``avg_pool2d`` isn't; the numbers are the same but for rounding.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, cast, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.checks import whole
from distill.instance_norm import InstanceNorm
from distill.rng import global_stream

ImageShape = tuple[int, int, int]


class Embedder(Protocol):
    """Whatever turns images into features."""

    def embed(self, images: Tensor) -> Tensor:
        """Returns the features ``(N, D)`` of normalised images ``(N, C, H, W)``."""
        ...


@final
class Network(nn.Module):
    """An embedding and a linear classifier on it."""

    def __init__(self, embedding: nn.Module, features: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.classifier = nn.Linear(features, num_classes)

    def embed(self, images: Tensor) -> Tensor:
        """Returns the features ``(N, D)`` of normalised images ``(N, C, H, W)``."""
        return cast(Tensor, self.embedding(images))

    def layers(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Returns the activations after every ReLU, ``(N, K, H, W)`` each, and the features.

        Raises:
            ValueError: If the network is no chain of layers with two ReLUs on maps.
        """
        activations, maps = list[Tensor](), images
        for module in self.embedding.children():
            maps = module(maps)
            if isinstance(module, nn.ReLU) and maps.ndim == 4:
                activations.append(maps)
        if len(activations) < 2:
            raise ValueError(
                "network must be a chain of two or more convolutional blocks for this objective; "
                "take convnet"
            )
        return activations, maps

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits ``(N, num_classes)``."""
        return cast(Tensor, self.classifier(self.embed(images)))


class Architecture(ABC):
    """A family member without weights. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network for images (C, H, W), initialised by torch's defaults."""


@final
@dataclass(frozen=True)
class ConvNet(Architecture):
    """ConvNet-``depth``: 317,706 parameters at width 128 and depth 3 on 28x28 grey.

    Attributes:
        width: Channels of each convolution, >= 1; 128 in the literature.
        depth: Blocks, >= 1; 3 in the literature for images of 28 and 32 pixels.
    """

    width: int
    depth: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)
        whole("network.depth", self.depth, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network.

        Raises:
            ValueError: If an image side is too small for ``depth`` halvings.
        """
        channels, height, width = image_shape
        padding = 3 if image_shape == (1, 28, 28) else 1
        height, width = height + 2 * padding - 2, width + 2 * padding - 2
        if min(height, width) < 2**self.depth:
            raise ValueError(
                f"convnet depth must be <= {min(height, width).bit_length() - 1} for images of "
                f"{image_shape[1]}x{image_shape[2]}, got {self.depth}; lower network.depth, or "
                "distiller.depth, or take the MLP"
            )
        blocks: list[nn.Module] = []
        for block in range(self.depth):
            convolution = nn.Conv2d(channels, self.width, 3, padding=padding if block == 0 else 1)
            normalisation = InstanceNorm(self.width)
            blocks += [convolution, normalisation, nn.ReLU(inplace=True), Halve()]
            channels = self.width
        features = self.width * (height >> self.depth) * (width >> self.depth)
        return Network(nn.Sequential(*blocks, nn.Flatten()), features, num_classes)


@final
@dataclass(frozen=True)
class MLP(Architecture):
    """Fully connected layers with ReLU.

    Attributes:
        width: Units of each hidden layer, >= 1; 128 in the literature.
        depth: Hidden layers, >= 1; 2 in the literature.
    """

    width: int
    depth: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)
        whole("network.depth", self.depth, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network."""
        layers: list[nn.Module] = [nn.Flatten()]
        features = image_shape[0] * image_shape[1] * image_shape[2]
        for _ in range(self.depth):
            layers += [nn.Linear(features, self.width), nn.ReLU()]
            features = self.width
        return Network(nn.Sequential(*layers), features, num_classes)


@final
class Halve(nn.Module):
    """The mean over 2x2 windows; a last odd row or column is dropped."""

    def forward(self, maps: Tensor) -> Tensor:
        """Returns ``(N, C, H // 2, W // 2)`` for maps ``(N, C, H, W)``."""
        height, width = maps.shape[2] // 2, maps.shape[3] // 2
        pairs = maps[:, :, : 2 * height, : 2 * width].reshape(*maps.shape[:2], height, 4 * width)
        column = torch.arange(4 * width, device=maps.device) % (2 * width) // 2
        windows = column == torch.arange(width, device=maps.device).unsqueeze(1)
        return F.linear(pairs, 0.25 * windows.to(maps.dtype))


def fresh(
    architecture: Architecture,
    image_shape: ImageShape,
    num_classes: int,
    rng: torch.Generator,
) -> Network:
    """Returns a newly initialised network whose weights depend on ``rng`` alone."""
    seed = int(torch.randint(2**62, (1,), generator=rng).item())
    with global_stream(seed):
        return architecture.build(image_shape, num_classes)


def blueprint(architecture: Architecture, image_shape: ImageShape, num_classes: int) -> Network:
    """Returns a network of names and shapes alone, without memory or random numbers."""
    with torch.device("meta"):
        return architecture.build(image_shape, num_classes)


def parameter_count(network: nn.Module) -> int:
    """Returns the numbers that a network holds."""
    return sum(parameter.numel() for parameter in network.parameters())
