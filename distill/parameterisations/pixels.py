"""Free pixels: every stored number is one pixel of one row.

References:
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021)
    | https://arxiv.org/abs/2006.05929

Differences from the paper: with ``clip`` the pixels stay inside what an 8-bit image can
hold after every step, so that storing a set as uint8 costs rounding only. IDC (Kim et al., ICML
2022) clips once for each network; noise to start from loses its tails.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.images import Normalisation
from distill.parameterisations.base import Budget, Parameters, Shape, Source


@final
@dataclass(frozen=True)
class Pixels(Source):
    """Rows as they are.

    Attributes:
        clip: Whether each step ends inside the range of real pixels.
    """

    clip: bool

    @property
    def is_plain(self) -> bool:
        """True."""
        return True

    def rows(self, budget: Budget, shape: Shape) -> Tensor:
        """Returns the rows that the budget pays for."""
        return budget.pays(math.prod(shape))

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns a copy of the rows as the parameter ``pixels``."""
        return {"pixels": first.clone()}

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the rows at ``index``."""
        return parameters["pixels"][index]

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Clips the pixels, where asked.

        Raises:
            ValueError: If the rows have no channels of pixels, as a generator's.
        """
        if self.clip:
            _check_images(parameters["pixels"], normalisation)
            with torch.no_grad():
                parameters["pixels"].copy_(normalisation.clip(parameters["pixels"]))


def _check_images(rows: Tensor, normalisation: Normalisation) -> None:
    if rows.ndim != 4 or rows.shape[1] != len(normalisation.mean):
        raise ValueError(
            "parameterisation.source.clip must be false where rows are no images, got true for "
            f"rows of shape {tuple(rows.shape[1:])}"
        )
