"""Public data sets, from an .npz or from what torchvision reads and downloads."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import final

import numpy as np

from distill.checks import one_of
from fedcl.datasets.arrays import KEYS, UNREADABLE, Array, labelled, one_line, read_npz
from fedcl.datasets.base import Dataset, Divided, Stored

logger = logging.getLogger(__name__)

NAMES = ("cifar10", "cifar100", "emnist", "fashion_mnist", "kmnist", "mnist", "svhn")
# What torchvision raises without a network, or on damaged files: URLError is an OSError,
# and its IDX reader asserts.
UNAVAILABLE = (*UNREADABLE, OSError, HTTPException, AssertionError)


@final
@dataclass(frozen=True)
class ImageFiles(Divided):
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
        super().__post_init__()

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
        return self.divided(stored, seed)


def folder(data_root: str | None) -> Path:
    """Returns the folder of data sets: ``data_root``, else $FEDCL_DATA, else ~/.cache/fedcl."""
    return Path(data_root or os.environ.get("FEDCL_DATA") or "~/.cache/fedcl").expanduser()


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
            f"files of torchvision's under {root}, and its download failed ({one_line(error)}); "
            f"put {name}.npz with uint8 {' '.join(KEYS)} there, or into the folder of data_root= "
            "or FEDCL_DATA, or run once with a network"
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
