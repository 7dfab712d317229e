"""How unlike clients are: in their classes, in how many images they have, in how they see."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def class_counts(parts: Sequence[Tensor], labels: Tensor, num_classes: int) -> Tensor:
    """Returns each client's images of each class, int64, ``(clients, num_classes)``.

    Args:
        parts: Indices of each client's images.
        labels: Class of each image, int64 in [0, num_classes), ``(N,)``.
        num_classes: Classes of the task.
    """
    return torch.stack([labels[rows].bincount(minlength=num_classes) for rows in parts])


def heterogeneity(counts: Tensor) -> float:
    r"""Returns how unlike the clients are, :math:`\frac1K\sum_k \frac12\|q_k - q\|_1`, in [0, 1].

    :math:`q_k` is the class distribution of client k and :math:`q` that of all images:
    0 when all clients are alike; 1 - 1/C with C equal classes and one class a client.

    Args:
        counts: Images of each client and class, ``(clients, classes)``, no empty client.

    Raises:
        ValueError: If a client has no image.
    """
    _check(counts)
    overall = counts.sum(0).double() / counts.sum()
    distances = (counts.double() / counts.sum(1, keepdim=True) - overall).abs().sum(1) / 2
    return distances.mean().item()


def quantity_skew(counts: Tensor) -> float:
    r"""Returns how unevenly images are divided, :math:`\frac12\sum_k |n_k/n - 1/K|`, in [0, 1].

    :math:`n_k` of n images are client k's, of K: 0 where all have as many; 1 - 1/K where one has
    nearly all. It is the share of images that would have to move.

    Args:
        counts: Images of each client and class, ``(clients, classes)``, no empty client.

    Raises:
        ValueError: If a client has no image.
    """
    _check(counts)
    shares = counts.sum(1).double() / counts.sum()
    return (shares - 1 / len(counts)).abs().sum().item() / 2


def feature_shift(images: Tensor, seen: Iterable[Tensor]) -> float:
    r"""Returns how differently clients see the same images, in standard deviations of these.

    .. math:: \frac1K \sum_k \sqrt{\mathrm{mean}\,(x_k - x)^2} \,/\, \mathrm{std}(x)

    Args:
        images: As they are, x, ``(N, C, H, W)``.
        seen: As each client k sees them, :math:`x_k`, likewise.
    """
    moved = [(other - images).square().mean().sqrt().item() for other in seen]
    return sum(moved) / len(moved) / images.std(correction=0).item()


def _check(counts: Tensor) -> None:
    if counts.ndim != 2 or not len(counts) or counts.sum(1).min() < 1:
        raise ValueError(
            f"counts must be (clients, classes) with an image in each client, got {counts.tolist()}"
        )
