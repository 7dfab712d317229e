r"""Scaled signs: one bit a number, and one scale a tensor.

Each tensor v of n numbers becomes its signs times its mean magnitude,

.. math:: Q(v) = \frac{\|v\|_1}{n} \, \mathrm{sign}(v) ;

where errors are fed back, what a round leaves out comes in later ones.

References:
    | Error Feedback Fixes SignSGD and other Gradient Compression Schemes
    | (Karimireddy, Rebjock, Stich and Jaggi, ICML 2019), https://arxiv.org/abs/1901.09847

Differences from the paper: the sign of zero is +1, as one bit can't hold a third value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedcl.compression.base import Compressor, checked, per_tensor


@final
@dataclass(frozen=True)
class Sign(Compressor):
    """One bit a number, eight of them a byte."""

    def encode(
        self,
        vector: Tensor,
        sizes: Sequence[int],
        rng: torch.Generator,  # noqa: ARG002
    ) -> ArrayRecord:
        """Returns ``bits``, uint8 of an eighth of d, and ``scales``, float32, one a tensor."""
        scales = torch.stack([part.abs().mean() for part in torch.split(vector, list(sizes))])
        bits = np.packbits((vector >= 0).numpy())
        return ArrayRecord({"bits": Array(bits), "scales": Array(scales.numpy())})

    def decode(self, record: ArrayRecord, sizes: Sequence[int]) -> Tensor:
        """Returns the signs times the scales.

        Raises:
            BadUploadError: If these aren't d bits and a scale a tensor.
        """
        d = sum(sizes)
        bits, scales = (np.uint8, (-(-d // 8),)), (np.float32, (len(sizes),))
        arrays = checked(record, {"bits": bits, "scales": scales})
        positive = torch.from_numpy(np.unpackbits(arrays["bits"], count=d).astype(np.float32))
        return (2 * positive - 1) * per_tensor(arrays["scales"], sizes)
