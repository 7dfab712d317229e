r"""What a synthetic image is called: its class for good, or a distribution that is learned.

Learned labels are :math:`C` numbers an image. They start from the centred one-hot label
:math:`(e_c - 1/C) / \sqrt{C / 10}` (FRePo), or are the logits of a distribution.

References:
    | Dataset Distillation using Neural Feature Regression (Zhou et al., NeurIPS 2022)
    | https://arxiv.org/abs/2206.00719

Differences from the paper: none. Distributions start here from one confidence in the image's
class; those of DATM, from what experts answer, are in expert_labels.py.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import inside_one
from distill.images import LabelledImages
from distill.real import RealData


class Labels(ABC):
    """How labels are kept. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def eligible(self, real: RealData) -> LabelledImages:
        """Returns the real images that a set may start from, some of every class."""

    @abstractmethod
    def begin(self, start: LabelledImages, real: RealData) -> Tensor | None:
        """Returns the numbers to start from, ``(N, num_classes)``, or None for hard labels.

        Args:
            start: The images that the set starts from, normalised, with their classes.
            real: The real images.
        """

    @abstractmethod
    def numbers(self, num_classes: int) -> int:
        """Returns the numbers that one label takes; 0: it is the class."""

    @property
    def are_distributions(self) -> bool:
        """Whether what is read is a distribution over the classes."""
        return False

    @abstractmethod
    def read(self, numbers: Tensor) -> Tensor:
        """Returns the targets ``(n, num_classes)`` that kept numbers stand for; differentiable."""


@final
@dataclass(frozen=True)
class HardLabels(Labels):
    """Every image keeps its class."""

    def eligible(self, real: RealData) -> LabelledImages:
        """Returns all of them."""
        return real.data

    def begin(self, start: LabelledImages, real: RealData) -> Tensor | None:  # noqa: ARG002
        """Returns None."""
        return None

    def numbers(self, num_classes: int) -> int:  # noqa: ARG002
        """Returns 0."""
        return 0

    def read(self, numbers: Tensor) -> Tensor:
        """Returns the numbers, of which there are none."""
        return numbers


@final
@dataclass(frozen=True)
class LearnedLabels(Labels):
    """Free numbers for a squared loss, from the centred one-hot label."""

    def eligible(self, real: RealData) -> LabelledImages:
        """Returns all of them."""
        return real.data

    def begin(self, start: LabelledImages, real: RealData) -> Tensor | None:  # noqa: ARG002
        """Returns the centred one-hot labels."""
        return centred(start.labels, start.num_classes)

    def numbers(self, num_classes: int) -> int:
        """Returns one a class."""
        return num_classes

    def read(self, numbers: Tensor) -> Tensor:
        """Returns the numbers."""
        return numbers


@final
@dataclass(frozen=True)
class SoftLabels(Labels):
    """Distributions for a cross-entropy loss, kept as logits.

    Attributes:
        confidence: The start's probability of the image's class, in (0, 1).
    """

    confidence: float

    def __post_init__(self) -> None:
        inside_one("labels.confidence", self.confidence)

    def eligible(self, real: RealData) -> LabelledImages:
        """Returns all of them."""
        return real.data

    def begin(self, start: LabelledImages, real: RealData) -> Tensor | None:  # noqa: ARG002
        """Returns logits that give each class its confidence."""
        rest = max(start.num_classes - 1, 1)
        gap = torch.tensor(self.confidence * rest / (1 - self.confidence)).log()
        return F.one_hot(start.labels, start.num_classes).float() * gap

    def numbers(self, num_classes: int) -> int:
        """Returns one a class."""
        return num_classes

    @property
    def are_distributions(self) -> bool:
        """Yes."""
        return True

    def read(self, numbers: Tensor) -> Tensor:
        """Returns the distributions."""
        return numbers.softmax(1)


@runtime_checkable
class Labelling(Protocol):
    """A method whose images have learned labels, or hard ones, as these say."""

    @property
    def labels(self) -> Labels:
        """How they are kept."""


def learns_distributions(method: object) -> bool:
    """Returns whether a method's images have distributions over the classes for labels."""
    return isinstance(method, Labelling) and method.labels.are_distributions


def scores(wanted: Tensor, num_classes: int) -> Tensor:
    """Returns what a squared loss compares with: numbers as they are, classes centred."""
    return wanted if wanted.is_floating_point() else centred(wanted, num_classes)


def centred(labels: Tensor, num_classes: int) -> Tensor:
    """Returns one-hot labels with mean zero, scaled as in FRePo, float32 ``(N, num_classes)``."""
    one_hot = F.one_hot(labels, num_classes).float()
    return (one_hot - 1 / num_classes) / math.sqrt(num_classes / 10)
