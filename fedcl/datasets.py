"""Data sets by name: where their files are looked for, how they are checked and split.

A source reads a training part and a test part, and a seed then divides the training
part; the test part is fixed and never used for a choice. Every division is stratified:
one image of each class, then the rest in proportion to the classes' sizes.
"""

import hashlib
import logging
import math
import os
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from typing import Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import fraction, one_of, whole
from distill.images import LabelledImages, Normalisation
from distill.rng import derive

logger = logging.getLogger(__name__)

Array = NDArray[np.generic]
KEYS = ("x_train", "y_train", "x_test", "y_test")
NAMES = ("cifar10", "cifar100", "emnist", "fashion_mnist", "kmnist", "mnist", "svhn")
# The digits' test part is one draw for all seeds, so that results compare across them.
DIGITS_SPLIT_SEED = 0
DIGITS_TEST_SHARE = 0.2
UNREADABLE = (ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
# What torchvision raises without a network, or on damaged files: URLError is an OSError,
# and its IDX reader asserts.
UNAVAILABLE = (*UNREADABLE, OSError, HTTPException, AssertionError)


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


@final
@dataclass(frozen=True)
class Digits(DatasetSource):
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: no file, no network.

    The 16 grey levels become uint8 by rounding ``x * 255 / 16``. The test part is a
    stratified fifth (360 images) that does not depend on the seed.

    Attributes:
        name: What reports call it.
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mirror: Whether a mirrored image keeps its label; augmentation configs read it.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    name: str
    validation: float
    train_images: int | None
    mirror: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def __post_init__(self) -> None:
        self._preparation()

    def load(self, seed: int) -> Dataset:
        """Returns the digits, their training part divided by ``seed``.

        Raises:
            ValueError: If the division leaves too few training images.
        """
        digits = _all_digits()
        keep = len(digits) - math.ceil(DIGITS_TEST_SHARE * len(digits))
        rows, test = stratified(digits, keep, derive(DIGITS_SPLIT_SEED, "digits", "test"))
        names = [str(digit) for digit in range(digits.num_classes)]
        stored = Stored(self.name, digits.rows(rows), digits.rows(test), names)
        return self._preparation().apply(stored, seed)

    def _preparation(self) -> Preparation:
        return Preparation(self.validation, self.train_images, self.mean, self.std)


@final
@dataclass(frozen=True)
class ImageFiles(DatasetSource):
    """A public image data set: ``<root>/<name>.npz``, else torchvision's files or download.

    EMNIST is its "balanced" split (47 classes, 112,800 + 18,800 images): the only one with
    letters whose classes are of equal size, so that plain accuracy is fair to all of
    them. Its files hold each image transposed; here it stands upright.

    Attributes:
        name: One of ``NAMES``.
        data_root: Folder of the files; None: $FEDCL_DATA, else ~/.cache/fedcl.
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mirror: Whether a mirrored image keeps its label; augmentation configs read it.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
        class_names: One name a class.
    """

    name: str
    data_root: str | None
    validation: float
    train_images: int | None
    mirror: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None
    class_names: Sequence[str]

    def __post_init__(self) -> None:
        one_of("dataset", self.name, NAMES)
        self._preparation()

    def load(self, seed: int) -> Dataset:
        """Returns the data set, its training part divided by ``seed``.

        Raises:
            ValueError: If it is neither on disk nor downloadable, or is malformed.
        """
        root = folder(self.data_root)
        path = root / f"{self.name}.npz"
        if path.exists():
            training, test = labelled(read_npz(path), str(path))
        else:
            training, test = labelled(*_from_torchvision(self.name, root))
        stored = Stored(self.name, training, test, self.class_names)
        return self._preparation().apply(stored, seed)

    def _preparation(self) -> Preparation:
        return Preparation(self.validation, self.train_images, self.mean, self.std)


@final
@dataclass(frozen=True)
class NpzFile(DatasetSource):
    """A user's own images: one .npz with uint8 ``x_train``, ``x_test`` and their labels.

    Attributes:
        name: What reports call it.
        path: The file; images ``(N, H, W)`` or ``(N, H, W, C)``, labels ``(N,)`` from 0.
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mirror: Whether a mirrored image keeps its label; augmentation configs read it.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    name: str
    path: str
    validation: float
    train_images: int | None
    mirror: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def __post_init__(self) -> None:
        self._preparation()

    def load(self, seed: int) -> Dataset:
        """Returns the data set, its training part divided by ``seed``.

        Raises:
            ValueError: If there is no such file, or it is malformed.
        """
        path = Path(self.path).expanduser()
        training, test = labelled(read_npz(path), str(path))
        names = [str(label) for label in range(training.num_classes)]
        return self._preparation().apply(Stored(self.name, training, test, names), seed)

    def digest(self) -> str | None:
        """Returns the file's SHA-256, None where there is no file."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _preparation(self) -> Preparation:
        return Preparation(self.validation, self.train_images, self.mean, self.std)


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


def folder(data_root: str | None) -> Path:
    """Returns the folder of data sets: ``data_root``, else $FEDCL_DATA, else ~/.cache/fedcl."""
    return Path(data_root or os.environ.get("FEDCL_DATA") or "~/.cache/fedcl").expanduser()


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


def read_npz(path: Path) -> dict[str, Array]:
    """Returns the four arrays of an .npz file, without unpickling anything.

    Raises:
        ValueError: If the file is missing, is no .npz archive, or lacks a readable array.
    """
    if not path.is_file():
        raise ValueError(f"{path} must be an .npz file, got no file of that name")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} must be an .npz archive, got a file of another kind")
    with np.load(path, allow_pickle=False) as archive:
        missing = [key for key in KEYS if key not in archive]
        if missing:
            raise ValueError(
                f"{path} must hold the arrays {', '.join(KEYS)}, got no {', '.join(missing)}"
            )
        return {key: _member(archive, key, path) for key in KEYS}


def _member(archive: Mapping[str, object], key: str, path: Path) -> Array:
    try:
        array = archive[key]
    except UNREADABLE as error:
        raise ValueError(
            f"{key} of {path} must be a readable array of numbers, got: {_one_line(error)}"
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{key} of {path} must be an array, got {type(array).__name__}")
    return array


def labelled(arrays: Mapping[str, Array], origin: str) -> tuple[LabelledImages, LabelledImages]:
    """Returns the training and the test part that four arrays hold.

    Args:
        arrays: ``x_train``, ``x_test``: uint8 ``(N, H, W)`` or ``(N, H, W, C)``;
            ``y_train``, ``y_test``: integers ``(N,)``, every class from 0 up in ``y_train``.
        origin: Where they come from, for messages.

    Raises:
        ValueError: If an array's type, shape or range differs.
    """
    x_train = _images(arrays["x_train"], f"x_train of {origin}")
    x_test = _images(arrays["x_test"], f"x_test of {origin}")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(
            f"x_test of {origin} must hold images of shape {x_train.shape[1:]} as x_train does, "
            f"got {x_test.shape[1:]}"
        )
    y_train = _labels(arrays["y_train"], f"y_train of {origin}", len(x_train))
    y_test = _labels(arrays["y_test"], f"y_test of {origin}", len(x_test))
    classes = _classes(y_train, f"y_train of {origin}")
    if y_test.max() >= classes:
        raise ValueError(
            f"y_test of {origin} must be <= {classes - 1}, the largest label of y_train, "
            f"got {y_test.max()}"
        )
    return _part(x_train, y_train, classes), _part(x_test, y_test, classes)


def _images(array: Array, what: str) -> Array:
    """Returns the images as ``(N, H, W, C)``."""
    if array.dtype != np.uint8:
        raise ValueError(
            f"{what} must be uint8, got {array.dtype}; scale pixels to 0..255 and store uint8"
        )
    if array.ndim not in (3, 4) or array.size == 0 or min(array.shape[1:3]) < 8:
        raise ValueError(
            f"{what} must have shape (N, H, W) or (N, H, W, C), not empty and with sides of "
            f"8 pixels or more, got {array.shape}"
        )
    return array if array.ndim == 4 else array[..., None]


def _labels(array: Array, what: str, images: int) -> NDArray[np.int64]:
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{what} must be integers, got {array.dtype}")
    if array.shape != (images,):
        raise ValueError(
            f"{what} must have shape ({images},), one label an image, got {array.shape}"
        )
    labels = array.astype(np.int64)
    if labels.min() < 0:
        raise ValueError(f"{what} must be >= 0, got {labels.min()}")
    return labels


def _classes(labels: NDArray[np.int64], what: str) -> int:
    """Returns the number of classes, each of which has a label."""
    present = np.unique(labels)
    classes = int(present[-1]) + 1
    if len(present) != classes:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise ValueError(
            f"{what} must use every class from 0 to {classes - 1}, got no image of class {gap}"
        )
    return classes


def _part(images: Array, labels: NDArray[np.int64], classes: int) -> LabelledImages:
    channels_first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return LabelledImages(torch.from_numpy(channels_first), torch.from_numpy(labels), classes)


def _all_digits() -> LabelledImages:
    from sklearn.datasets import load_digits  # half a second, and only needed here

    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    return _part(pixels[..., None], digits.target.astype(np.int64), 10)


def _from_torchvision(name: str, root: Path) -> tuple[dict[str, Array], str]:
    """Returns the four arrays from torchvision's files or download, and their origin.

    Raises:
        ValueError: If it can neither read nor download them.
    """
    logger.info("no %s.npz under %s: asking torchvision", name, root)
    try:
        x_train, y_train = _torchvision_part(name, root, train=True)
        x_test, y_test = _torchvision_part(name, root, train=False)
    except UNAVAILABLE as error:
        raise ValueError(
            f"dataset {name} must be on disk or downloadable, got neither {root / name}.npz nor "
            f"files of torchvision's under {root}, and its download failed ({_one_line(error)}); "
            f"put {name}.npz with uint8 {' '.join(KEYS)} there, or run once with a network"
        ) from error
    arrays = (x_train, y_train, x_test, y_test)
    return dict(zip(KEYS, arrays, strict=True)), f"torchvision's {name} under {root}"


def _torchvision_part(name: str, root: Path, *, train: bool) -> tuple[Array, Array]:
    """Returns images ``(N, H, W)`` or ``(N, H, W, C)`` and labels ``(N,)``.

    ``download=True`` downloads nothing where the files are there already.
    """
    from torchvision import datasets  # seconds to import, and not needed with an .npz

    if name == "emnist":
        emnist = datasets.EMNIST(root, split="balanced", train=train, download=True)
        return emnist.data.transpose(1, 2).numpy(), emnist.targets.numpy()
    if name == "svhn":
        svhn = datasets.SVHN(root, split="train" if train else "test", download=True)
        return svhn.data.transpose(0, 2, 3, 1), svhn.labels
    kinds = {
        "cifar10": datasets.CIFAR10,
        "cifar100": datasets.CIFAR100,
        "fashion_mnist": datasets.FashionMNIST,
        "kmnist": datasets.KMNIST,
        "mnist": datasets.MNIST,
    }
    part = kinds[name](root, train=train, download=True)
    return np.asarray(part.data), np.asarray(part.targets)


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
