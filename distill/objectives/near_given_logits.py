r"""A statistic with a bond to logits that somebody else took (FedAF's collaborative condensation).

Beside what another statistic asks for, the logits :math:`z_{cj}` of the :math:`M_c` synthetic
images of class c are held near given means :math:`V_c`, in the squared sliced Wasserstein distance,

.. math:: L_{near} = \sum_c SW_2^2\big(\{z_{cj}\}_j, \{V_c\}\big)
    = \sum_c \frac{1}{C M_c} \sum_j \| z_{cj} - V_c \|_2^2 .

In every projection all mass goes to the one point :math:`V_c`, and over all directions a squared
projection is 1/C of the squared length in the mean: no direction needs to be drawn.

References:
    | An Aggregation-Free Federated Learning for Tackling Data Heterogeneity (Wang, Fu,
    | Kanagavelu, Wei, Liu and Goh, CVPR 2024), https://arxiv.org/abs/2404.18962

Differences from the paper: the mean over all directions takes the place of some that are drawn.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import at_least
from distill.networks import Network
from distill.objectives.matching import Statistic, differentiated
from distill.real import ClassBatch


@final
@dataclass(frozen=True)
class NearGivenLogits(Statistic):
    r"""Another statistic's loss plus :math:`\lambda L_{near}`.

    Attributes:
        statistic: The other one.
        means: :math:`V_c` by class, ``(C,)`` each; a class without one is left alone.
        weight: :math:`\lambda`, >= 0.
    """

    statistic: Statistic
    means: Mapping[int, Tensor]
    weight: float

    def __post_init__(self) -> None:
        at_least("weight of the given logits", self.weight, 0)

    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> tuple[float, Tensor]:
        """Returns the loss and its gradient on the synthetic images."""
        loss, slope = self.statistic.pull(network, real, synthetic, rng)
        near, pull = differentiated(self._near(network, synthetic), synthetic)
        return loss + self.weight * near, slope + self.weight * pull

    def _near(self, network: Network, synthetic: ClassBatch) -> Tensor:
        logits = network(synthetic.images)
        gaps = [
            (logits[synthetic.groups == row] - self.means[label]).square().mean()
            for row, label in enumerate(synthetic.labels.tolist())
            if label in self.means
        ]
        return torch.stack([logits.sum() * 0, *gaps]).sum()
