"""Half precision: every number as float16, half the bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedcl.compression.base import Compressor, checked

LARGEST = torch.finfo(torch.float16).max


@final
@dataclass(frozen=True)
class Half(Compressor):
    """IEEE half precision, rounded to nearest; numbers beyond its range are cut to it."""

    def encode(
        self,
        vector: Tensor,
        sizes: Sequence[int],  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> ArrayRecord:
        """Returns ``values``, float16 ``(d,)``."""
        values = vector.clamp(-LARGEST, LARGEST).half()
        return ArrayRecord({"values": Array(values.numpy())})

    def decode(self, record: ArrayRecord, sizes: Sequence[int]) -> Tensor:
        """Returns the values as float32.

        Raises:
            BadUploadError: If they aren't d finite float16 numbers.
        """
        arrays = checked(record, {"values": (np.float16, (sum(sizes),))})
        return torch.from_numpy(arrays["values"].astype(np.float32))
