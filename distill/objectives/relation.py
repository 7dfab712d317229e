r"""Relationship matching (SSD): a small set stands to other classes as the real images do.

With unit features :math:`u(x) = \psi(x) / \|\psi(x)\|_2` and images :math:`m_1, \dots, m_K` of
classes that are small already, what a memory holds of the past,

.. math:: L = D + \lambda \sum_c \sum_k \Big| \Big\| \frac{1}{|s_c|} \sum_j u(s_{cj}) - u(m_k)
    \Big\|_2 - \Big\| \frac{1}{|x_c|} \sum_i u(x_{ci}) - u(m_k) \Big\|_2 \Big| ,

where :math:`D` is another statistic, that of gradients in the paper.

References:
    | Summarizing Stream Data for Memory-Constrained Online Continual Learning
    | (Gu, Wang, Jiang and You, AAAI 2024), https://arxiv.org/abs/2305.16645

Differences from the paper: the others are drawn once a step for all classes. Its code augments
every image by itself, steps after each class with a momentum of 0.9, and trains its network on the
stream and the memory in between.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, whole
from distill.networks import Network
from distill.objectives.distribution import class_means, embedded
from distill.objectives.matching import Pull, Statistic, differentiated
from distill.real import ClassBatch, RealData


@final
@dataclass(frozen=True)
class Related(Statistic):
    r"""Another statistic, and the distances to images of other classes.

    Attributes:
        statistic: :math:`D`.
        weight: :math:`\lambda`, >= 0; 1 in the released code.
        others: K, images of other classes a step, >= 1; all, where there are fewer; 10 there.
    """

    statistic: Statistic
    weight: float
    others: int

    def __post_init__(self) -> None:
        at_least("objective.statistic.weight", self.weight, 0)
        whole("objective.statistic.others", self.others, 1)

    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> tuple[float, Tensor]:
        """Returns :math:`D` and its gradient on the synthetic images: there are no others."""
        return self.statistic.pull(network, real, synthetic, rng)

    def about(self, real: RealData) -> Pull:
        """Returns :meth:`pull` beside the images that the task has of other classes."""
        past = real.others
        if not len(past):
            return self.pull

        def pull(
            network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
        ) -> tuple[float, Tensor]:
            loss, gradient = self.pull(network, real, synthetic, rng)
            drawn = past[torch.randperm(len(past), generator=rng)[: self.others]]
            gap = self.weight * relation_gap(network, real, synthetic, drawn)
            more, pulled = differentiated(gap, synthetic)
            return loss + more, gradient + pulled

        return pull


def relation_gap(
    network: Network, real: ClassBatch, synthetic: ClassBatch, others: Tensor
) -> Tensor:
    """Returns the sum over classes and others, differentiable by the synthetic images.

    Args:
        network: Embeds the images.
        real: Real images.
        synthetic: Synthetic images of the same classes in the same rows.
        others: Images of other classes, ``(K, C, H, W)``.
    """
    memory = F.normalize(embedded(network, others))
    target = class_means(F.normalize(embedded(network, real.images)), real)
    ours = class_means(F.normalize(network.embed(synthetic.images)), synthetic)
    gap: Tensor = torch.cdist(ours, memory) - torch.cdist(target, memory)
    return gap.abs().sum()
