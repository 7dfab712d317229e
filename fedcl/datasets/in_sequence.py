"""Several data sets as one, whose classes come one data set after another."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import final

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.images import LabelledImages, Normalisation
from fedcl.datasets.base import Dataset, DatasetSource


@final
@dataclass(frozen=True)
class InSequence(DatasetSource):
    """Several data sets as one: the classes of the first, then those of the second, and so on.

    Images are brought to the tallest and widest of their shapes, bilinearly, and grey ones to
    colour where one data set has it, by three equal channels; all share one normalisation,
    that of the images trained on. A class name that two data sets have is preceded by the data
    set's, as ``mnist 3``.

    Attributes:
        name: What reports call it.
        sources: The data sets by name, in order.
        mirror: Whether a mirrored image keeps its label in all; augmentation configs read it.
    """

    name: str
    sources: Mapping[str, DatasetSource]
    mirror: bool

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("dataset.sources must be one or more data sets, got none")

    def digest(self) -> str | None:
        """Returns the digest of those of the sources that have one; None where none has."""
        parts = [digest for source in self.sources.values() if (digest := source.digest())]
        return hashlib.sha256("".join(parts).encode()).hexdigest() if parts else None

    def load(self, seed: int) -> Dataset:
        """Returns the data sets, each with its training part divided by ``seed``, as one.

        Raises:
            ValueError: If one cannot be had, or their channels cannot be made equal.
        """
        loaded = {name: source.load(seed) for name, source in self.sources.items()}
        parts = list(loaded.values())
        train = _in_sequence([data.train for data in parts])
        return Dataset(
            name=self.name,
            train=train,
            validation=_in_sequence([data.validation for data in parts]),
            test=_in_sequence([data.test for data in parts]),
            normalisation=Normalisation.of(train.images),
            class_names=_told_apart({name: data.class_names for name, data in loaded.items()}),
        )


def _in_sequence(parts: Sequence[LabelledImages]) -> LabelledImages:
    """Returns the images of all parts in one shape, their classes one part after another."""
    shapes = [part.image_shape for part in parts]
    channels, height, width = (max(sides) for sides in zip(*shapes, strict=True))
    classes, first = sum(part.num_classes for part in parts), 0
    joined = []
    for part in parts:
        images = _shaped(part.images, channels, (height, width))
        joined.append(LabelledImages(images, part.labels + first, classes))
        first += part.num_classes
    return LabelledImages.union(joined)


def _shaped(images: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Returns uint8 images ``(N, C, H, W)`` in a larger size and with more channels."""
    if images.shape[1] not in (1, channels):
        raise ValueError(
            f"data sets in sequence must have 1 or {channels} channels, got {images.shape[1]}"
        )
    if images.shape[2:] != size:
        resized = F.interpolate(images.float(), size, mode="bilinear", align_corners=False)
        images = resized.round_().byte()
    return images.expand(-1, channels, *size)


def _told_apart(names: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Returns all class names, those that are in two data sets with the data set's before them."""
    times = Counter(chain.from_iterable(names.values()))
    return tuple(
        f"{source} {name}" if times[name] > 1 else name
        for source, group in names.items()
        for name in group
    )
