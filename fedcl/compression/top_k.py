r"""Top-k: the numbers of largest magnitude, and where they stand; the others are zero.

Of d numbers, :math:`k = \lceil \mathrm{share} \cdot d \rceil` are sent, chosen over all tensors
at once. Their places are 32 bits each, or one bit for each of the d, whichever is less.

References:
    | Sparse Communication for Distributed Gradient Descent (Aji and Heafield, EMNLP 2017)
    | https://arxiv.org/abs/1704.05021
    | Sparsified SGD with Memory (Stich, Cordonnier and Jaggi, NeurIPS 2018)
    | https://arxiv.org/abs/1809.07599

Differences from the papers: none that matter; Aji and Heafield find their threshold on a sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from distill.checks import fraction
from fedcl.compression.base import Compressor, checked
from fedcl.wire import BadUploadError


@final
@dataclass(frozen=True)
class TopK(Compressor):
    """The largest numbers only.

    Attributes:
        share: Of the numbers that are sent, in (0, 1]; at least one is.
    """

    share: float

    def __post_init__(self) -> None:
        fraction("compression share", self.share)
        if self.share == 0:
            raise ValueError("compression share must be > 0, got 0")

    def encode(
        self,
        vector: Tensor,
        sizes: Sequence[int],  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> ArrayRecord:
        """Returns ``values``, float32 ``(k,)`` by place, and ``places``, uint32 or packed bits."""
        places = vector.abs().topk(self._count(len(vector))).indices.sort().values
        values = vector[places].numpy()
        if self._as_bits(len(vector)):
            mask = torch.zeros(len(vector), dtype=torch.bool)
            mask[places] = True
            packed: npt.NDArray[Any] = np.packbits(mask.numpy())
        else:
            packed = places.numpy().astype(np.uint32)
        return ArrayRecord({"values": Array(values), "places": Array(packed)})

    def decode(self, record: ArrayRecord, sizes: Sequence[int]) -> Tensor:
        """Returns the values at their places, and zeros.

        Raises:
            BadUploadError: If these aren't k numbers at k different places.
        """
        d = sum(sizes)
        k, as_bits = self._count(d), self._as_bits(d)
        kind = (np.uint8, (-(-d // 8),)) if as_bits else (np.uint32, (k,))
        arrays = checked(record, {"values": (np.float32, (k,)), "places": kind})
        places = arrays["places"]
        places = np.unpackbits(places, count=d).nonzero()[0] if as_bits else places.astype(int)
        if len(places) != k or places[-1] >= d or (np.diff(places) <= 0).any():
            raise BadUploadError(
                f"places must be {k} different ones below {d}, ascending, got {len(places)} "
                f"from {places.min(initial=d)} to {places.max(initial=0)}"
            )
        vector = torch.zeros(d)
        vector[torch.from_numpy(places)] = torch.from_numpy(arrays["values"].copy())
        return vector

    def _count(self, d: int) -> int:
        return min(d, math.ceil(self.share * d))

    def _as_bits(self, d: int) -> bool:
        return 4 * self._count(d) > -(-d // 8)
