r"""Distribution matching (DM): give each class the mean embedding of its real images.

For an embedding network :math:`\psi`, :math:`B_c` real images :math:`x_{ci}` and
:math:`M_c` synthetic images :math:`s_{cj}` of each class :math:`c`, the loss is

.. math:: L = \sum_{c=1}^{C} \Big\|
    \frac{1}{B_c} \sum_{i=1}^{B_c} \psi(x_{ci}) - \frac{1}{M_c} \sum_{j=1}^{M_c} \psi(s_{cj})
    \Big\|_2^2 .

With ``logits`` the mean logits are matched as well (FedDM). As they are linear in the features,
:math:`W \psi + b`, their squared gap is that of :math:`W` times the gap of the features.

References:
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023)
    | https://arxiv.org/abs/2110.04181
    | FedDM: Iterative Distribution Matching for Communication-Efficient Federated Learning
    | (Xiong et al., CVPR 2023), https://arxiv.org/abs/2207.09653: ``logits``

Differences from the paper: none. Its code runs one pass per class where the network has no
batch normalisation; all classes share one pass here, and the real side is embedded in
chunks without a graph. Both give the same numbers.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import one_of
from distill.networks import Embedder, Network
from distill.objectives.matching import Separable
from distill.precision import PRECISIONS, products
from distill.real import ClassBatch

CHUNK = 64  # images embedded at once: their maps at width 128 stay within a processor's cache


@final
@dataclass(frozen=True)
class DistributionMatching(Separable):
    """The DM loss. It draws no random numbers.

    Attributes:
        logits: Whether the mean logits are matched, too.
        precision: Of the products in embedding real images, ``float32`` or ``bfloat16``; means
            are taken in float32.
    """

    logits: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        one_of("objective.statistic.precision", self.precision, PRECISIONS)

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the summand of each class, ``(K,)``."""
        target = class_means(embedded(network, real.images, self.precision), real)
        gap = class_means(network.embed(synthetic.images), synthetic) - target
        losses = gap.square().sum(1)
        if self.logits:
            losses = losses + (gap @ network.classifier.weight.T).square().sum(1)
        return losses


@torch.no_grad()
def embedded(network: Embedder, images: Tensor, precision: str = "float32") -> Tensor:
    """Returns the features ``(N, D)``, in chunks and without a graph.

    Args:
        network: Embeds the images.
        images: Normalised, ``(N, C, H, W)``.
        precision: Of the products, ``float32`` or ``bfloat16``; features are as images are.
    """
    with products(precision, images.device):
        chunks = [network.embed(chunk).to(images.dtype) for chunk in torch.split(images, CHUNK)]
    return torch.cat(chunks)


def class_means(features: Tensor, batch: ClassBatch) -> Tensor:
    """Returns the mean feature of each class: ``(N, D)`` to ``(K, D)``."""
    sums = features.new_zeros(batch.classes, features.shape[1])
    counts = torch.bincount(batch.groups, minlength=batch.classes)
    return sums.index_add(0, batch.groups, features) / counts.unsqueeze(1)
