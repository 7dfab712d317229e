"""uint8: every pixel a byte, the nearest of 256 values; images that came as bytes lose nothing."""

import math
from dataclasses import dataclass
from typing import final

from torch import Tensor

from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store


@final
@dataclass(frozen=True)
class Uint8(Store):
    """Pixels as bytes."""

    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns a byte a pixel, and 0."""
        return math.prod(image_shape), 0

    @property
    def numbers(self) -> str:
        """uint8."""
        return "uint8"

    def share(self, images: Tensor) -> Tensor:
        """Returns nothing."""
        return images.new_zeros(0)

    def encode(self, images: Tensor, frame: Frame) -> Tensor:
        """Returns the nearest pixels; what exceeds their range is cut."""
        return frame.normalisation.quantise(images)

    def decode(self, rows: Tensor, frame: Frame) -> Tensor:
        """Returns the pixels, normalised."""
        return frame.normalisation(rows)
