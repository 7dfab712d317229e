r"""Attention matching (DataDAM): look where real images make networks look.

The attention map of a layer with activations :math:`f \in \mathbb{R}^{K \times H \times W}`
is :math:`z = \sum_k |f_k|^p`, flattened and divided by its norm. Layers but the last match
class means of :math:`z`, the last matches class means of the embedding :math:`\psi`:

.. math:: L = \sum_c \Big( \sum_l \|\bar z_l(x_c) - \bar z_l(s_c)\|_2^2
    + \lambda \|\bar\psi(x_c) - \bar\psi(s_c)\|_2^2 \Big) .

References:
    | DataDAM: Efficient Dataset Distillation with Attention Matching (Sajedi et al., ICCV 2023)
    | https://arxiv.org/abs/2310.00093

Differences from the paper: none in the loss; the released code calls :math:`p = 1`, and
multiplies :math:`L` by 100.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, positive
from distill.networks import Network
from distill.objectives.distribution import CHUNK, class_means
from distill.objectives.matching import Separable
from distill.real import ClassBatch


@final
@dataclass(frozen=True)
class AttentionMatching(Separable):
    r"""The DataDAM loss.

    Attributes:
        power: p, > 0; 4 in the paper.
        balance: :math:`\lambda`, the weight of the embedding's term, >= 0.
    """

    power: float
    balance: float

    def __post_init__(self) -> None:
        positive("power", self.power)
        at_least("balance", self.balance, 0)

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the summand of each class, ``(K,)``."""
        with torch.no_grad():
            chunks = [self._seen(network, chunk) for chunk in torch.split(real.images, CHUNK)]
        theirs = [torch.cat(parts) for parts in zip(*chunks, strict=True)]
        gaps = [
            (class_means(s, synthetic) - class_means(r, real)).square().sum(1)
            for s, r in zip(self._seen(network, synthetic.images), theirs, strict=True)
        ]
        return torch.stack(gaps[:-1]).sum(0) + self.balance * gaps[-1]

    def _seen(self, network: Network, images: Tensor) -> list[Tensor]:
        """Returns the attention of all layers but the last, and the embedding, each ``(N, D)``."""
        activations, features = network.layers(images)
        return [*(attention(maps, self.power) for maps in activations[:-1]), features]


def attention(maps: Tensor, power: float) -> Tensor:
    """Returns the normalised attention of activations: ``(N, K, H, W)`` to ``(N, H * W)``."""
    return F.normalize(maps.abs().pow(power).sum(1).flatten(1), dim=1)
