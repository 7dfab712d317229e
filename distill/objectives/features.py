r"""Aligned features (CAFE): match class means layer by layer, and keep classes apart.

With activations :math:`f_l` after each ReLU and the embedding :math:`\psi`,

.. math:: L = \sum_l w_l \sum_c \|\bar f_l(x_c) - \bar f_l(s_c)\|_2^2
    + w_\psi \sum_c \|\bar\psi(x_c) - \bar\psi(s_c)\|_2^2
    + \beta \sum_i \mathrm{CE}\big(\langle \psi(x_i), \bar\psi(s_c) \rangle_c,\, y_i\big),

the last term asking the synthetic class centres to classify the real embeddings.

References:
    | CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., CVPR 2022)
    | https://arxiv.org/abs/2203.01531

Differences from the paper: it follows the released code, whose last pooled maps and flattened
features are the same numbers twice (so :math:`w_\psi` is 2); the cross-entropy of real images
through the classifier, which has no gradient on synthetic ones, is left out. Layers before
the last two count a tenth, whatever the depth. That code augments nothing unless asked to, and
halves the set's step size at 1,200, 1,600 and 1,800 of 2,000 networks; here it has no schedule.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least
from distill.networks import Network
from distill.objectives.distribution import CHUNK, class_means
from distill.objectives.matching import Statistic, check_same_classes, differentiated
from distill.real import ClassBatch


@final
@dataclass(frozen=True)
class AlignedFeatures(Statistic):
    r"""The CAFE loss.

    Attributes:
        early: Weight of all activations but the last, >= 0; 0.1 in the released code.
        last: Weight of the last activations, >= 0; 1.
        embedding: Weight of the embedding, >= 0; 2.
        discrimination: :math:`\beta`, >= 0; 0.01.
    """

    early: float
    last: float
    embedding: float
    discrimination: float

    def __post_init__(self) -> None:
        for name in ("early", "last", "embedding", "discrimination"):
            at_least(name, getattr(self, name), 0)

    def pull(
        self,
        network: Network,
        real: ClassBatch,
        synthetic: ClassBatch,
        rng: torch.Generator,  # noqa: ARG002
    ) -> tuple[float, Tensor]:
        """Returns :math:`L` and its gradient on the synthetic images.

        Raises:
            ValueError: If the two batches differ in classes or in image shape.
        """
        check_same_classes(real, synthetic)
        theirs, embeddings = _real_means(network, real)
        activations, features = network.layers(synthetic.images)
        ours = [class_means(layer.flatten(1), synthetic) for layer in [*activations, features]]
        weights = [self.early] * (len(activations) - 1) + [self.last, self.embedding]
        gaps = [
            weight * (s - r).square().sum()
            for weight, s, r in zip(weights, ours, theirs, strict=True)
        ]
        centres = ours[-1]
        told_apart = F.cross_entropy(embeddings @ centres.T, real.groups, reduction="sum")
        return differentiated(torch.stack(gaps).sum() + self.discrimination * told_apart, synthetic)


@torch.no_grad()
def _real_means(network: Network, real: ClassBatch) -> tuple[list[Tensor], Tensor]:
    """Returns the class means of all layers, summed in chunks, and every real embedding."""
    counts = torch.bincount(real.groups, minlength=real.classes).unsqueeze(1)
    sums, embeddings = list[Tensor](), []
    for images, groups in zip(
        torch.split(real.images, CHUNK), torch.split(real.groups, CHUNK), strict=True
    ):
        activations, features = network.layers(images)
        layers = [layer.flatten(1) for layer in [*activations, features]]
        if not sums:
            sums = [layer.new_zeros(real.classes, layer.shape[1]) for layer in layers]
        for total, layer in zip(sums, layers, strict=True):
            total.index_add_(0, groups, layer)
        embeddings.append(features)
    return [total / counts for total in sums], torch.cat(embeddings)
