"""float32: images as networks see them, to the last bit, at four bytes a pixel."""

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store


@final
@dataclass(frozen=True)
class Float32(Store):
    """Normalised images as they are."""

    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns four bytes a pixel, and 0."""
        return 4 * math.prod(image_shape), 0

    @property
    def numbers(self) -> str:
        """float32."""
        return "float32"

    def share(self, images: Tensor) -> Tensor:
        """Returns nothing."""
        return images.new_zeros(0)

    def encode(self, images: Tensor, frame: Frame) -> Tensor:  # noqa: ARG002
        """Returns the images."""
        return images

    def decode(self, rows: Tensor, frame: Frame) -> Tensor:  # noqa: ARG002
        """Returns the rows."""
        return rows
