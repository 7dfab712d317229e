r"""Distribution matching (DM): give each class the mean embedding of its real images.

For an embedding network :math:`\psi`, :math:`B_c` real images :math:`x_{ci}` and
:math:`M_c` synthetic images :math:`s_{cj}` of each class :math:`c`, the loss is

.. math:: L = \sum_{c=1}^{C} \Big\|
    \frac{1}{B_c} \sum_{i=1}^{B_c} \psi(x_{ci}) - \frac{1}{M_c} \sum_{j=1}^{M_c} \psi(s_{cj})
    \Big\|_2^2 .

References:
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023)
    | https://arxiv.org/abs/2110.04181

Differences from the paper: none. Its code runs one pass per class where the network has no
batch normalisation; all classes share one pass here, and the real side is embedded in
chunks without a graph. Both give the same numbers.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.networks import Embedder
from distill.objectives.base import ClassBatch, Objective, check_same_classes

CHUNK = 64  # images embedded at once: their maps at width 128 stay within a processor's cache


@final
@dataclass(frozen=True)
class DistributionMatching(Objective):
    """The DM loss. It has no hyperparameters and draws no random numbers."""

    def __call__(self, network: Embedder, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the scalar loss :math:`L`; gradients reach ``synthetic.images`` only.

        Raises:
            ValueError: If the two batches differ in classes or in image shape.
        """
        check_same_classes(real, synthetic)
        with torch.no_grad():
            features = [network.embed(chunk) for chunk in torch.split(real.images, CHUNK)]
            target = class_means(torch.cat(features), real)
        gap = class_means(network.embed(synthetic.images), synthetic) - target
        return gap.square().sum()


def class_means(features: Tensor, batch: ClassBatch) -> Tensor:
    """Returns the mean feature of each class: ``(N, D)`` to ``(K, D)``."""
    sums = features.new_zeros(batch.classes, features.shape[1])
    counts = torch.bincount(batch.groups, minlength=batch.classes)
    return sums.index_add(0, batch.groups, features) / counts.unsqueeze(1)
