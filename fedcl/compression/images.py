"""Small sets as compressed images: a row of few bytes each, made pixels again where it arrives.

A client decompresses nothing: the server reads the rows, and from then on the set is one of uint8
pixels, checked and used as if it had come so.
"""

from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord

from distill.images import Normalisation
from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store
from fedcl.wire import BadUploadError, array_of

ROWS = "rows"


@final
@dataclass(frozen=True)
class CompressedImages:
    """How small sets are sent.

    Attributes:
        store: Makes the rows, each on its own, of bytes.
        image_shape: (C, H, W) of the task.
        normalisation: Map between pixels and what networks see.
    """

    store: Store
    image_shape: ImageShape
    normalisation: Normalisation

    def encode(self, record: ArrayRecord) -> ArrayRecord:
        """Returns the rows of a small set's ``images`` (:mod:`fedcl.wire`), and all else of it.

        Raises:
            ValueError: If an image doesn't fit into a row.
        """
        pixels = torch.from_numpy(record["images"].numpy().copy())
        rows = self.store.encode(self.normalisation(pixels), self._frame)
        return ArrayRecord({ROWS: Array(rows.numpy()), **_without("images", record)})

    def decode(self, record: ArrayRecord) -> ArrayRecord:
        """Returns the small set again, its pixels near those that were sent.

        Raises:
            BadUploadError: If there are no rows, or they are no images.
        """
        if ROWS not in record or "images" in record:
            raise BadUploadError(f"arrays must be rows and no images, got {', '.join(record)}")
        rows, size = array_of(record, ROWS), self.store.sizes(self.image_shape)[0]
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != size or not len(rows):
            raise BadUploadError(
                f"rows must be uint8 of shape (images, {size}) with at least one image, "
                f"got {rows.dtype} of shape {rows.shape}"
            )
        try:
            images = self.store.decode(torch.from_numpy(rows.copy()), self._frame)
        except (ValueError, RuntimeError) as error:
            raise BadUploadError("rows must be compressed images, got bytes that aren't") from error
        pixels = self.normalisation.quantise(images)
        return ArrayRecord({"images": Array(pixels.numpy()), **_without(ROWS, record)})

    @property
    def _frame(self) -> Frame:
        return Frame(self.image_shape, self.normalisation, torch.zeros(0))


def _without(name: str, record: ArrayRecord) -> dict[str, Array]:
    return {other: array for other, array in record.items() if other != name}
