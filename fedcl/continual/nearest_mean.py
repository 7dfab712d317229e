r"""Nearest mean: an image is of the class whose mean feature in the memory is nearest.

With features :math:`\varphi` of norm one, the mean of class :math:`c`'s images :math:`M_c` is
:math:`\mu_c = \frac{1}{|M_c|} \sum_{x \in M_c} \varphi(x)`, scaled to norm one as well, and the
answer is :math:`\arg\min_c \| \varphi(x) - \mu_c \|`.

References:
    | iCaRL: Incremental Classifier and Representation Learning (Rebuffi, Kolesnikov, Sperl and
    | Lampert, CVPR 2017)
    | https://arxiv.org/abs/1611.07725

Differences from the paper: none.
"""

from typing import Self, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.images import LabelledImages
from distill.networks import Network
from distill.training import SCORED_AT_ONCE

UNKNOWN = -4.0  # below all known classes: between vectors of norm one distances are 2 at most


@final
class NearestMean(nn.Module):
    """A classifier that compares features with means.

    Attributes:
        network: Gives the features.
        means: Of norm one; zeros where a class has no image, ``(num_classes, D)``.
        known: Which classes have images, bool, ``(num_classes,)``.
    """

    def __init__(self, network: Network, means: Tensor, known: Tensor) -> None:
        super().__init__()
        self.network, self.means, self.known = network, means, known

    @classmethod
    @torch.no_grad()
    def of(cls, network: Network, held: LabelledImages) -> Self:
        """Returns the classifier by the mean features of what a memory holds, at least an image."""
        network.eval()
        features = torch.cat(
            [_unit(network, part) for part in torch.split(held.images, SCORED_AT_ONCE)]
        )
        sums = features.new_zeros(held.num_classes, features.shape[1])
        sums.index_add_(0, held.labels, features)
        return cls(network, F.normalize(sums), (held.counts > 0).to(sums.device))

    def forward(self, images: Tensor) -> Tensor:
        """Returns minus the distances, ``(N, num_classes)``; ``UNKNOWN`` where there is no mean.

        It is finite, so that an image that comes with its task is answered by a class of it, even
        where no class of it has a mean.
        """
        distances = torch.cdist(_unit(self.network, images), self.means)
        return (-distances).masked_fill(~self.known, UNKNOWN)


def _unit(network: Network, images: Tensor) -> Tensor:
    """Returns features of norm one, ``(N, D)``."""
    return F.normalize(network.embed(images))
