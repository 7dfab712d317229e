"""How unlike the clients of a partition are."""

from collections.abc import Sequence

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
    if counts.ndim != 2 or not len(counts) or counts.sum(1).min() < 1:
        raise ValueError(
            f"counts must be (clients, classes) with an image in each client, got {counts.tolist()}"
        )
    overall = counts.sum(0).double() / counts.sum()
    distances = (counts.double() / counts.sum(1, keepdim=True) - overall).abs().sum(1) / 2
    return distances.mean().item()
