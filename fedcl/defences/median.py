r"""Median: a client whose set pulls the global network elsewhere than the others' is set aside.

Vectors are the gradients :math:`\nabla_w \ell(w; x, y)` at the global network w; what stands out
from their coordinate-wise median, and by how much, is in :mod:`fedcl.defences.blocks`.

References:
    | Byzantine-Robust Distributed Learning: Towards Optimal Statistical Rates (Yin, Chen,
    | Ramchandran and Bartlett, ICML 2018), https://arxiv.org/abs/1803.01498

Differences from the paper: clients send images and the server takes their gradients. The median
isn't stepped along but compared with, and class by class: under skewed labels the gradients of
whole sets differ by their classes far more than by any attack.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from distill.checks import positive
from fedcl.defences.base import Defence, Evidence
from fedcl.defences.blocks import outlying
from fedcl.defences.induced import induced_gradients


@final
@dataclass(frozen=True)
class Median(Defence):
    """Outliers from the median gradient.

    Attributes:
        threshold: Robust deviations from which on a block stands out, > 0.
    """

    threshold: float
    needs_spread: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("defence.threshold", self.threshold)

    def rejected(self, evidence: Evidence) -> Mapping[int, str]:
        """Returns the clients with a class that stands out."""
        return outlying(evidence.sets, induced_gradients(evidence.server), self.threshold)
