r"""Linear bases (RTP): images of all classes are mixtures of a few shared bases.

Row :math:`j` of class :math:`c` is :math:`r_{cj} = \sum_{k=1}^{K} a_{cjk} b_k` with bases
:math:`b_k` that all classes share and coefficients :math:`a_{cj}` of its own. A row costs
:math:`K` numbers, so that many more can be recalled than the same bytes hold as pixels.

References:
    | Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks
    | (Deng and Russakovsky, NeurIPS 2022), https://arxiv.org/abs/2206.02916

Differences from the paper: bases and coefficients may start from the principal components
of real images (``start=real``); the paper's start is Xavier noise, and ``start=noise`` is the
principal components of noise images.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.images import Normalisation
from distill.parameterisations.base import Budget, Parameters, Shape, Source


@final
@dataclass(frozen=True)
class LinearBases(Source):
    """Shared bases, coefficients of every row.

    Attributes:
        bases: K, the bases, >= 1.
        most: Rows of each unit of a class's share at most, >= 1: more recall more and train
            longer.
    """

    bases: int
    most: int

    def __post_init__(self) -> None:
        whole("parameterisation.source.bases", self.bases, 1)
        whole("parameterisation.source.most", self.most, 1)

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def rows(self, budget: Budget, shape: Shape) -> Tensor:
        """Returns the rows whose coefficients are paid for once the bases are."""
        paid = budget.pays(self.bases, shared=self.bases * math.prod(shape))
        return paid.minimum(budget.counts * self.most)

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns the best bases for ``first`` in the least squares; spare ones are noise.

        Spare are those beyond the rank of ``first``, whose singular values are rounding alone.
        """
        flat = first.flatten(1)
        left, values, right = torch.linalg.svd(flat, full_matrices=False)
        known = min(self.bases, len(values))
        scale = (values[:known] / len(flat) ** 0.5).clamp(min=1e-6).sqrt()
        bases = torch.randn(self.bases, flat.shape[1], generator=rng) / flat.shape[1] ** 0.5
        bases, coefficients = bases.to(flat), flat.new_zeros(len(flat), self.bases)
        rounding = torch.finfo(flat.dtype).eps * max(flat.shape) * values[:1]
        spare = values[:known] <= rounding
        best = right[:known] * scale.unsqueeze(1)
        bases[:known] = torch.where(spare.unsqueeze(1), bases[:known], best)
        coefficients[:, :known] = left[:, :known] * (values[:known] / scale).where(~spare, 0)
        return {"bases": bases.view(-1, *first.shape[1:]), "coefficients": coefficients}

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the mixtures at ``index``."""
        bases = parameters["bases"]
        mixed = parameters["coefficients"][index] @ bases.flatten(1)
        return mixed.view(-1, *bases.shape[1:])

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Leaves everything as it is."""
