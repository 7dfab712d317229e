"""What a store is: images in, a row of few bytes an image out, and images near them back."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from torch import Tensor

from distill.images import Normalisation
from distill.networks import ImageShape


@final
@dataclass(frozen=True)
class Frame:
    """What the rows of one memory are read against.

    Attributes:
        image_shape: (C, H, W).
        normalisation: Map between pixels in [0, 1] and what networks see.
        shared: What :meth:`Store.share` made, which all rows refer to.
    """

    image_shape: ImageShape
    normalisation: Normalisation
    shared: Tensor


class Store(ABC):
    """A way to keep images. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns the bytes of one row, the label aside, and those that all rows share.

        Raises:
            ValueError: If images of this shape can't be kept so.
        """

    @property
    @abstractmethod
    def numbers(self) -> str:
        """The type of numbers that a method decodes to images; empty: it keeps images alone."""

    @property
    def lasting(self) -> bool:
        """Whether an image stays as it is while others join the memory."""
        return True

    @abstractmethod
    def share(self, images: Tensor) -> Tensor:
        """Returns what rows of normalised images ``(n, C, H, W)`` will share; n >= 1."""

    @abstractmethod
    def encode(self, images: Tensor, frame: Frame) -> Tensor:
        """Returns the rows ``(n, ...)`` of normalised images ``(n, C, H, W)``.

        Raises:
            ValueError: If an image doesn't fit into a row.
        """

    @abstractmethod
    def decode(self, rows: Tensor, frame: Frame) -> Tensor:
        """Returns the normalised images of rows, float32, ``(n, C, H, W)``."""
