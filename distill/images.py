"""Labelled images as tensors, their normalisation, and how many bytes a store takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import image_stack
from distill.stores import itemsize


@final
@dataclass(frozen=True)
class Normalisation:
    """The affine map from pixels in [0, 1] to the space in which networks see images.

    Attributes:
        mean: Mean of each channel, in [0, 1], length C.
        std: Standard deviation of each channel, > 0, length C.
    """

    mean: Sequence[float]
    std: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(m) for m in self.mean))
        object.__setattr__(self, "std", tuple(float(s) for s in self.std))
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            raise ValueError(
                f"mean and std must have equal lengths and std must be > 0, "
                f"got {self.mean} and {self.std}"
            )

    @classmethod
    def of(cls, images: Tensor) -> Self:
        """Returns the statistics of uint8 images ``(N, C, H, W)``, summed in float64."""
        pixels = images.transpose(0, 1).flatten(1)
        mean = [channel.double().mean().item() / 255 for channel in pixels]
        std = [max(channel.double().std().item() / 255, 1e-3) for channel in pixels]
        return cls(mean, std)

    def __call__(self, images: Tensor) -> Tensor:
        """Returns uint8 images ``(N, C, H, W)`` as normalised float32."""
        mean, std = self._channels(images)
        return (images.float() / 255).sub_(mean).div_(std)

    def quantise(self, images: Tensor) -> Tensor:
        """Returns normalised images as the nearest uint8 ones; what exceeds [0, 1] is cut."""
        mean, std = self._channels(images)
        return images.float().mul(std).add_(mean).mul_(255).round_().clamp_(0, 255).byte()

    def clip(self, images: Tensor) -> Tensor:
        """Returns normalised images with every pixel inside what uint8 can hold."""
        mean, std = self._channels(images)
        return images.maximum(-mean / std).minimum((1 - mean) / std)

    def _channels(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1] != len(self.mean):
            raise ValueError(f"images must have {len(self.mean)} channels, got {images.shape[1]}")
        options = {"device": images.device, "dtype": torch.float32}
        mean = torch.tensor(self.mean, **options)  # type: ignore[arg-type]
        std = torch.tensor(self.std, **options)  # type: ignore[arg-type]
        return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)


@final
@dataclass(frozen=True)
class LabelledImages:
    """Images of one task with their classes.

    Attributes:
        images: ``(N, C, H, W)``; normalised float32 for training, uint8 as stored.
        labels: Class of each image, int64 in [0, num_classes), ``(N,)``.
        num_classes: Classes of the task, whether or not each has an image here.
        targets: What a network is to answer instead of the class, float32
            ``(N, num_classes)``; None: the class.
    """

    images: Tensor
    labels: Tensor
    num_classes: int
    targets: Tensor | None = None

    def __post_init__(self) -> None:
        image_stack("images", self.images)
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape ({len(self.images)},), "
                f"got {self.labels.dtype} of shape {tuple(self.labels.shape)}"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < self.num_classes:
            raise ValueError(
                f"labels must be in [0, {self.num_classes}), "
                f"got {self.labels.min().item()} to {self.labels.max().item()}"
            )
        soft = (len(self.labels), self.num_classes)
        if self.targets is not None and self.targets.shape != soft:
            raise ValueError(f"targets must have shape {soft}, got {tuple(self.targets.shape)}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape of one image, (C, H, W)."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    @property
    def counts(self) -> Tensor:
        """Images of each class, int64, ``(num_classes,)``, on the CPU."""
        return torch.bincount(self.labels, minlength=self.num_classes).cpu()

    @property
    def are_distributions(self) -> bool:
        """Whether there are targets, and they are probabilities."""
        return self.targets is not None and bool((self.targets >= 0).all())

    @property
    def distributions(self) -> Tensor:
        """The targets, or all on the class where there are none, float32 ``(N, num_classes)``."""
        if self.targets is not None:
            return self.targets
        return F.one_hot(self.labels, self.num_classes).float()

    def rows(self, index: Tensor) -> Self:
        """Returns the images at ``index``, in its order."""
        targets = None if self.targets is None else self.targets[index]
        return type(self)(self.images[index], self.labels[index], self.num_classes, targets)

    def to(self, device: torch.device | str) -> Self:
        """Returns the same images on a device."""
        targets = None if self.targets is None else self.targets.to(device)
        images, labels = self.images.to(device), self.labels.to(device)
        return type(self)(images, labels, self.num_classes, targets)

    def of_class(self, label: int) -> Tensor:
        """Returns the images of one class, ``(n, C, H, W)``, in stored order."""
        return self.images[self.labels == label]

    @classmethod
    def union(cls, parts: Sequence["LabelledImages"]) -> "LabelledImages":
        """Returns the images of all parts, in the order given.

        Raises:
            ValueError: If there is no part, or the parts are of different tasks, or some have
                targets and some don't.
        """
        if not parts or len({(part.image_shape, part.num_classes) for part in parts}) > 1:
            raise ValueError(
                "parts must be one or more sets of one image shape and number of classes, got "
                f"{sorted({(part.image_shape, part.num_classes) for part in parts})}"
            )
        soft = [part.targets for part in parts if part.targets is not None]
        if soft and len(soft) < len(parts):
            raise ValueError(f"parts must all have targets or none, got {len(soft)} with targets")
        images = torch.cat([part.images for part in parts])
        labels = torch.cat([part.labels for part in parts])
        return cls(images, labels, parts[0].num_classes, torch.cat(soft) if soft else None)


def bytes_of(image: Tensor) -> bytes:
    """Returns an image's values as bytes, by which it is known again."""
    return image.cpu().numpy().tobytes()


def stored_bytes(count: int, image_shape: Sequence[int], store: str) -> int:
    """Returns the bytes of ``count`` images and their labels, one byte a label.

    >>> stored_bytes(10, (1, 28, 28), "uint8"), stored_bytes(10, (1, 28, 28), "float32")
    (7850, 31370)

    Raises:
        ValueError: If the store is unknown.
    """
    return count * (math.prod(image_shape) * itemsize(store) + 1)
