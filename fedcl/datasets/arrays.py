"""The four arrays of a data set, read from an .npz and checked."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from distill.images import LabelledImages

Array = NDArray[np.generic]
KEYS = ("x_train", "y_train", "x_test", "y_test")
UNREADABLE = (ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)


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
            f"{key} of {path} must be a readable array of numbers, got: {one_line(error)}"
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
    train = labelled_part(
        x_train, arrays["y_train"], f"x_train of {origin}", f"y_train of {origin}"
    )
    y_test = _labels(arrays["y_test"], f"y_test of {origin}", len(x_test))
    if y_test.max() >= train.num_classes:
        raise ValueError(
            f"y_test of {origin} must be <= {train.num_classes - 1}, the largest label of "
            f"y_train, got {y_test.max()}"
        )
    return train, part(x_test, y_test, train.num_classes)


def labelled_part(images: Array, labels: Array, images_are: str, labels_are: str) -> LabelledImages:
    """Returns what two arrays hold.

    Args:
        images: uint8, ``(N, H, W)`` or ``(N, H, W, C)``.
        labels: Integers, ``(N,)``, every class from 0 up.
        images_are: What messages call the images.
        labels_are: What they call the labels.

    Raises:
        ValueError: If a type, shape or range differs.
    """
    pixels = _images(images, images_are)
    numbers = _labels(labels, labels_are, len(pixels))
    return part(pixels, numbers, _classes(numbers, labels_are))


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


def part(images: Array, labels: NDArray[np.int64], classes: int) -> LabelledImages:
    """Returns uint8 images ``(N, H, W, C)`` and labels ``(N,)`` as torch has them."""
    channels_first = np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return LabelledImages(torch.from_numpy(channels_first), torch.from_numpy(labels), classes)


def one_line(error: BaseException) -> str:
    """Returns an error's type and words without line breaks."""
    return " ".join(f"{type(error).__name__}: {error}".split())
