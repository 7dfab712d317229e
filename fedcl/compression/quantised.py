r"""Stochastic quantisation: eight bits a number, and one scale a tensor.

For each tensor with the largest magnitude :math:`s`, a number v becomes one of its two
neighbours on a grid of 255 levels, the nearer one more likely, so that its mean is v:

.. math:: Q(v) = \frac{s}{127} \Big\lfloor \frac{127 v}{s} + u \Big\rfloor,
    \qquad u \sim U[0, 1) .

References:
    | QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding
    | (Alistarh, Grubic, Li, Tomioka and Vojnovic, NeurIPS 2017), https://arxiv.org/abs/1610.02132
    | FedPAQ: A Communication-Efficient Federated Learning Method with Periodic Averaging and
    | Quantization (Reisizadeh et al., AISTATS 2020), https://arxiv.org/abs/1909.13014

Differences from the papers: the scale is the largest magnitude, of which QSGD's experiments
speak as its max-norm variant; no entropy code follows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedcl.compression.base import Compressor, checked, per_tensor

LEVELS = 127  # on either side of zero


@final
@dataclass(frozen=True)
class Quantised(Compressor):
    """Eight bits a number, rounded at random without bias."""

    def encode(self, vector: Tensor, sizes: Sequence[int], rng: torch.Generator) -> ArrayRecord:
        """Returns ``levels``, int8 ``(d,)``, and ``scales``, float32, one a tensor."""
        scales = torch.stack([part.abs().max() for part in torch.split(vector, list(sizes))])
        steps = (per_tensor(scales.numpy(), sizes) / LEVELS).clamp(min=torch.finfo().tiny)
        u = torch.rand(len(vector), generator=rng)
        levels = (vector / steps + u).floor().clamp(-LEVELS, LEVELS).to(torch.int8)
        return ArrayRecord({"levels": Array(levels.numpy()), "scales": Array(scales.numpy())})

    def decode(self, record: ArrayRecord, sizes: Sequence[int]) -> Tensor:
        """Returns the levels times their steps.

        Raises:
            BadUploadError: If these aren't d levels and a scale a tensor.
        """
        levels, scales = (np.int8, (sum(sizes),)), (np.float32, (len(sizes),))
        arrays = checked(record, {"levels": levels, "scales": scales})
        steps = per_tensor(arrays["scales"], sizes) / LEVELS
        return torch.from_numpy(arrays["levels"].astype(np.float32)) * steps
