"""The seam between images and losses: an objective sees images, never how they came about."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from distill.networks import Embedder


@final
@dataclass(frozen=True)
class ClassBatch:
    """Images of some classes, any number of each.

    Attributes:
        images: Normalised, ``(N, C, H, W)``.
        groups: For each image the row of its class in the batch, int64 in [0, K), ``(N,)``.
        classes: K, the classes in the batch.
    """

    images: Tensor
    groups: Tensor
    classes: int


class Objective(ABC):
    """A loss between real and synthetic images. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def __call__(self, network: Embedder, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the scalar loss; gradients reach ``synthetic.images`` only.

        Args:
            network: Sees the images; its parameters take no gradient.
            real: Augmented real images.
            synthetic: Augmented synthetic images of the same classes in the same rows.
        """


def check_same_classes(real: ClassBatch, synthetic: ClassBatch) -> None:
    """Refuses batches of different classes or image shapes.

    Raises:
        ValueError: If they differ.
    """
    if real.classes != synthetic.classes or real.images.shape[1:] != synthetic.images.shape[1:]:
        raise ValueError(
            "real and synthetic must be of the same classes and image shape, got "
            f"real {real.classes} x {tuple(real.images.shape[1:])}, "
            f"synthetic {synthetic.classes} x {tuple(synthetic.images.shape[1:])}"
        )
