"""JPEG: each image compressed to a fixed number of bytes, at the highest quality that fits.

A JPEG file of 28x28 pixels is mostly header: sizes, quantisation tables, and the standard
Huffman tables, all of which follow from the image's shape and the quality. So a row holds the
quality, one byte, then the compressed data alone, filled up with 0xFF, which the standard
allows before a marker; the header is made again when it is read. The quality, in [1, 100],
is found by bisection.

References:
    | Memory Replay with Data Compression for Continual Learning (Wang et al., ICLR 2022)
    | https://arxiv.org/abs/2202.06592
    | ITU-T Recommendation T.81 (1992), B.1.1.2 on fill bytes and B.4 on abbreviated formats

Differences from the paper: the bytes of an image are given and the quality follows, where the
paper chooses one quality for all images; headers are not stored.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store

SCAN, END = (0xFF, 0xDA), (0xFF, 0xD9)  # the markers before the compressed data, and after it
FILL = 0xFF


@final
@dataclass(frozen=True)
class Jpeg(Store):
    """Images compressed to equal bytes.

    Attributes:
        bytes_each: Bytes of one image, its quality among them, >= 2; None: a quarter of its
            pixels.
    """

    bytes_each: int | None

    def __post_init__(self) -> None:
        if self.bytes_each is not None:
            whole("storage.bytes_each", self.bytes_each, 2)

    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns what was given, and 0.

        Raises:
            ValueError: If the images are neither grey nor in three colours.
        """
        if image_shape[0] not in (1, 3):
            raise ValueError(f"storage=jpeg must get 1 or 3 channels, got {image_shape[0]}")
        return self.bytes_each or math.prod(image_shape) // 4, 0

    @property
    def numbers(self) -> str:
        """None: images alone."""
        return ""

    def share(self, images: Tensor) -> Tensor:
        """Returns nothing."""
        return images.new_zeros(0)

    def encode(self, images: Tensor, frame: Frame) -> Tensor:
        """Returns quality, compressed data and fill, uint8, ``(n, size)``.

        Raises:
            ValueError: If an image takes more bytes at the lowest quality.
        """
        size = self.sizes(frame.image_shape)[0]
        rows = torch.full((len(images), size), FILL, dtype=torch.uint8)
        for row, pixels in zip(rows, frame.normalisation.quantise(images), strict=True):
            quality, data = _best(pixels, size - 1)
            row[0], row[1 : 1 + len(data)] = quality, data
        return rows

    def decode(self, rows: Tensor, frame: Frame) -> Tensor:
        """Returns the images, decompressed."""
        from torchvision.io import decode_jpeg  # torchvision takes a second to import

        end = torch.tensor(END, dtype=torch.uint8)
        headers = [_header(frame.image_shape, quality) for quality in rows[:, 0].tolist()]
        files = [torch.cat([h, row[1:], end]) for h, row in zip(headers, rows, strict=True)]
        return frame.normalisation(torch.stack([decode_jpeg(file) for file in files]))


def _best(pixels: Tensor, most: int) -> tuple[int, Tensor]:
    """Returns a quality at which the data of an image fits, and doesn't at the next, with it."""
    low, high, found = 0, 101, torch.empty(0)
    while high - low > 1:
        middle = (low + high) // 2
        data = _split(pixels, middle)[1]
        if len(data) <= most:
            low, found = middle, data
        else:
            high = middle
    if low == 0:
        least = 1 + len(_split(pixels, 1)[1])
        raise ValueError(
            f"storage.bytes_each must be >= {least} for an image that came, got {most + 1}"
        )
    return low, found


@cache
def _header(image_shape: ImageShape, quality: int) -> Tensor:
    return _split(torch.zeros(image_shape, dtype=torch.uint8), quality)[0]


def _split(pixels: Tensor, quality: int) -> tuple[Tensor, Tensor]:
    """Returns a JPEG file's header, and its data without the marker at the end."""
    from torchvision.io import encode_jpeg  # torchvision takes a second to import

    file = encode_jpeg(pixels, quality)
    marks = ((file[:-1] == SCAN[0]) & (file[1:] == SCAN[1])).nonzero()
    length = int(marks[0]) + 2
    start = length + 256 * int(file[length]) + int(file[length + 1])
    return file[:start], file[start : -len(END)]
