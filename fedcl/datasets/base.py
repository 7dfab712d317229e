"""What a data set is, and how a seed divides it.

A source reads a training part and a test part, and a seed then divides the training
part; the test part is fixed and never used for a choice. Every division is stratified:
one image of each class, then the rest in proportion to the classes' sizes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from distill.checks import fraction, whole
from distill.images import LabelledImages, Normalisation
from distill.rng import derive


@final
@dataclass(frozen=True)
class Dataset:
    """A data set as an experiment sees it.

    Attributes:
        name: What reports call it.
        train: What may be trained on, uint8 images ``(N, C, H, W)``.
        validation: What choices are made on; it came out of the training part and may be empty.
        test: What is reported, and is never used for a choice.
        normalisation: From stored pixels to the space in which networks see them.
        class_names: One name a class, in the order of the labels.
    """

    name: str
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages
    normalisation: Normalisation
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.class_names) != self.train.num_classes:
            raise ValueError(
                f"class_names must be {self.train.num_classes} names, one for each class "
                f"of {self.name}, got {len(self.class_names)}"
            )
        if len(self.normalisation.mean) != self.train.image_shape[0]:
            raise ValueError(
                f"mean must be {self.train.image_shape[0]} numbers, one for each channel "
                f"of {self.name}, got {len(self.normalisation.mean)}"
            )

    def to(self, device: torch.device | str) -> Self:
        """Returns the same data set on a device."""
        parts = {name: getattr(self, name).to(device) for name in ("train", "validation", "test")}
        return replace(self, **parts)

    def normalised(self, part: LabelledImages) -> LabelledImages:
        """Returns a part of this data set with normalised float32 images."""
        return LabelledImages(self.normalisation(part.images), part.labels, part.num_classes)


class DatasetSource(ABC):
    """Where a data set comes from. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def load(self, seed: int) -> Dataset:
        """Returns the data set, its training part divided by ``seed``.

        Raises:
            ValueError: If the data cannot be had, are malformed, or are too few.
        """

    def digest(self) -> str | None:
        """Returns the SHA-256 of what a user may change under the same name, if there is such."""
        return None


@final
@dataclass(frozen=True)
class Stored:
    """A data set as its files hold it, before any division.

    Attributes:
        name: What reports call it.
        training: The training part, uint8 images ``(N, C, H, W)``.
        test: The test part, with the same image shape and classes.
        class_names: One name a class.
    """

    name: str
    training: LabelledImages
    test: LabelledImages
    class_names: Sequence[str]


@final
@dataclass(frozen=True)
class Preparation:
    """How stored images become a data set.

    Attributes:
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains, at least one a class; None keeps all.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    validation: float
    train_images: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def __post_init__(self) -> None:
        fraction("dataset.validation", self.validation)
        if self.validation == 1:
            raise ValueError("dataset.validation must be < 1, got 1")
        if self.train_images is not None:
            whole("dataset.train_images", self.train_images, 1)
        if (self.mean is None) != (self.std is None):
            raise ValueError(
                "dataset.mean and dataset.std must be both given or both null, "
                f"got {self.mean} and {self.std}"
            )
        self._given()

    def apply(self, stored: Stored, seed: int) -> Dataset:
        """Returns the data set whose training part is divided by ``seed``.

        The held-out part is drawn from the stream "validation" and the subset that
        ``train_images`` asks for from the stream "train_images".

        Raises:
            ValueError: If fewer than one training image a class would remain, or
                ``train_images`` exceeds what remains.
        """
        train, validation = self._divide(stored.training, seed)
        return Dataset(
            name=stored.name,
            train=train,
            validation=validation,
            test=stored.test,
            normalisation=self._given() or Normalisation.of(train.images),
            class_names=tuple(stored.class_names),
        )

    def _given(self) -> Normalisation | None:
        if self.mean is None or self.std is None:
            return None
        return Normalisation(self.mean, self.std)

    def _divide(self, training: LabelledImages, seed: int) -> tuple[LabelledImages, LabelledImages]:
        keep = len(training) - round(self.validation * len(training))
        present = int((training.counts > 0).sum())
        if keep < present:
            raise ValueError(
                f"dataset.validation must leave {present} training images, one for each class, "
                f"got {self.validation}, which leaves {keep} of {len(training)}"
            )
        rows, held_out = stratified(training, keep, derive(seed, "validation"))
        train = training.rows(rows)
        if self.train_images is not None:
            train = self._subset(train, self.train_images, present, seed)
        return train, training.rows(held_out)

    def _subset(self, train: LabelledImages, images: int, least: int, seed: int) -> LabelledImages:
        if not least <= images <= len(train):
            raise ValueError(
                f"dataset.train_images must be in [{least}, {len(train)}], from one image for "
                f"each class to all that remain, got {images}"
            )
        rows, _ = stratified(train, images, derive(seed, "train_images"))
        return train.rows(rows)


class Divided(DatasetSource):
    """A source whose training part is divided as a :class:`Preparation` says.

    Attributes:
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    validation: float
    train_images: int | None
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def __post_init__(self) -> None:
        self._preparation()

    def divided(self, stored: Stored, seed: int) -> Dataset:
        """Returns the data set whose training part is divided by ``seed``."""
        return self._preparation().apply(stored, seed)

    def _preparation(self) -> Preparation:
        return Preparation(self.validation, self.train_images, self.mean, self.std)


def stratified(part: LabelledImages, keep: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns the rows of a stratified draw of ``keep`` images, and the rows left over.

    Args:
        part: The images to divide.
        keep: Images drawn, from one for each class that has images to ``len(part)``.
        rng: Draws the images within each class.

    Returns:
        Two disjoint int64 index tensors in ascending order, ``(keep,)`` and
        ``(len(part) - keep,)``.
    """
    kept = torch.zeros(len(part), dtype=torch.bool)
    for label, quota in enumerate(_quotas(part.counts, keep).tolist()):
        rows = (part.labels == label).nonzero().squeeze(1)
        kept[rows[torch.randperm(len(rows), generator=rng)[:quota]]] = True
    return kept.nonzero().squeeze(1), (~kept).nonzero().squeeze(1)


def _quotas(counts: Tensor, keep: int) -> Tensor:
    """Returns how many images each class keeps, int64 ``(C,)``, summing to ``keep``.

    One for each class that has images; the others by largest remainder, in whole
    numbers, so that no rounding of floats decides; ties go to the lower class.
    """
    first = (counts > 0).long()
    others = keep - first.sum()
    total = (counts - first).sum().clamp(min=1)
    shares = (counts - first) * others
    quotas = shares // total
    by_remainder = (shares % total).argsort(descending=True, stable=True)
    quotas[by_remainder[: others - quotas.sum()]] += 1
    return first + quotas
