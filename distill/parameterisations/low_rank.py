r"""Low-rank images: each channel of a row is a product of two thin matrices.

Channel :math:`X \in \mathbb{R}^{H \times W}` of a row is stored as :math:`U V` with
:math:`U \in \mathbb{R}^{H \times r}` and :math:`V \in \mathbb{R}^{r \times W}`, which takes
:math:`r (H + W)` numbers instead of :math:`H W`. The start is the truncated singular value
decomposition, the nearest matrix of rank :math:`r`.

References:
    | The approximation of one matrix by another of lower rank (Eckart and Young, Psychometrika
    | 1936)

Differences from the paper: the factors are then learned; no published method is meant.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.images import Normalisation
from distill.parameterisations.base import Budget, Parameters, Shape, Source


@final
@dataclass(frozen=True)
class LowRank(Source):
    """Rows as products of thin matrices.

    Attributes:
        rank: r, >= 1.
    """

    rank: int

    def __post_init__(self) -> None:
        whole("parameterisation.source.rank", self.rank, 1)

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def rows(self, budget: Budget, shape: Shape) -> Tensor:
        """Returns the rows that the budget pays for.

        Raises:
            ValueError: If the rank exceeds a side.
        """
        channels, height, width = shape
        self._check_rank(shape)
        return budget.pays(channels * self.rank * (height + width))

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns the nearest factors, singular values shared between both sides.

        Raises:
            ValueError: If the rank exceeds a side.
        """
        self._check_rank(first.shape[1:])
        left, values, right = torch.linalg.svd(first, full_matrices=False)
        root = values[..., : self.rank].sqrt()
        return {
            "left": left[..., : self.rank] * root.unsqueeze(-2),
            "right": right[..., : self.rank, :] * root.unsqueeze(-1),
        }

    def _check_rank(self, shape: Shape) -> None:
        _, height, width = shape
        if self.rank > min(height, width):
            raise ValueError(
                f"parameterisation.source.rank must be <= {min(height, width)} for rows of "
                f"{height}x{width}, got {self.rank}"
            )

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the products at ``index``."""
        return parameters["left"][index] @ parameters["right"][index]

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Leaves everything as it is."""
