r"""Gradient matching (DC, DSA, IDC): train networks in the direction that real images do.

For class :math:`c` let :math:`g^r` and :math:`g^s` be the gradients, by the weights
:math:`\theta`, of the mean cross-entropy on its real and on its synthetic images. The loss
:math:`\sum_c D(g^s, g^r)` sums over weight tensors and, for the cosine, over the rows
:math:`i` that feed one output:

.. math:: D_{\cos} = \sum_i \Big(1 - \frac{\langle g^s_i, g^r_i \rangle}
    {\|g^s_i\| \|g^r_i\| + \epsilon}\Big), \quad
    D_2 = \|g^s - g^r\|_2^2, \quad D_1 = \|g^s - g^r\|_1 .

Its gradient on the images is one pullback along :math:`v = \partial D / \partial g^s`, so
the graph of one class is alive at a time, and the real side needs none.

References:
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021)
    | https://arxiv.org/abs/2006.05929
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, ICML 2021)
    | https://arxiv.org/abs/2102.08259
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., ICML 2022)
    | https://arxiv.org/abs/2205.14959

Differences from the papers: biases and the affine numbers of normalisation are left out of
the cosine, as in DC's released code, where they add nothing. IDC updates the set after each
class; here, as in DC, once for all of them, which is the same to a set whose classes share
nothing, but for the momentum. IDC applies every family of its augmentation to an image, here
DSA's takes its place, one family at a time; and it keeps the momentum of its network between
two steps of the set, which starts again here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import one_of
from distill.networks import Network
from distill.objectives.matching import Statistic, check_same_classes
from distill.pullback import Weights, gradient, traced_gradient, weights_of
from distill.real import ClassBatch

EPSILON = 1e-6  # added to the product of norms; VICO-UoE/DatasetCondensation, utils.py


@final
@dataclass(frozen=True)
class GradientMatching(Statistic):
    """The distance of weight gradients.

    Attributes:
        distance: ``cosine`` (DC, DSA), ``squared`` or ``absolute`` (IDC).
        layers: ``all``: every weight of two dimensions or more; ``convolutions``: those of
            four (IDC).
    """

    distance: str
    layers: str

    def __post_init__(self) -> None:
        one_of("distance", self.distance, DISTANCES)
        one_of("layers", self.layers, LAYERS)

    def check(self, network: Network) -> None:
        """Refuses a network without weights of the layers asked for.

        Raises:
            ValueError: If it has none.
        """
        self.matched(weights_of(network))

    def pull(
        self,
        network: Network,
        real: ClassBatch,
        synthetic: ClassBatch,
        rng: torch.Generator,  # noqa: ARG002
    ) -> tuple[float, Tensor]:
        """Returns the loss and its gradient on the synthetic images.

        Raises:
            ValueError: If the two batches differ in classes or in image shape, or the network
                has no weight of the layers asked for.
        """
        check_same_classes(real, synthetic)
        weights = weights_of(network)
        matched = self.matched(weights)
        loss, pulled = 0.0, torch.zeros_like(synthetic.images)
        for group in range(real.classes):
            ours, theirs = synthetic.of_group(group), real.of_group(group)
            target = gradient(network, weights, theirs, matched)
            slopes, traced = traced_gradient(network, weights, ours, matched)
            distance, direction = self.compared(slopes, target)
            loss += distance
            pulled[synthetic.groups == group] = traced(direction)
        return loss, pulled

    def matched(self, weights: Weights) -> list[str]:
        """Returns the names of the weights whose gradients count.

        Raises:
            ValueError: If there are none.
        """
        names = [name for name, w in weights.items() if w.ndim >= LAYERS[self.layers]]
        if not names:
            raise ValueError(
                "layers must be all for a network without convolutions, got convolutions"
            )
        return names

    def compared(self, slopes: Weights, target: Weights) -> tuple[float, dict[str, Tensor]]:
        r"""Returns :math:`D` and its derivative by ``slopes``, by name.

        Args:
            slopes: :math:`g^s` of the weights that count.
            target: :math:`g^r`, of others too.
        """
        leaves = {name: slope.detach().requires_grad_() for name, slope in slopes.items()}
        measure = DISTANCES[self.distance]
        distance = torch.stack([measure(leaf, target[name]) for name, leaf in leaves.items()]).sum()
        found = torch.autograd.grad(distance, list(leaves.values()))
        return distance.item(), dict(zip(leaves, found, strict=True))


def cosine_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the sum over outputs of one minus the cosine of their rows."""
    s, r = ours.flatten(1), theirs.flatten(1)
    norms: Tensor = s.norm(dim=1) * r.norm(dim=1)
    return (1 - (s * r).sum(1) / (norms + EPSILON)).sum()


def squared_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the sum of squared differences."""
    return (ours - theirs).square().sum()


def absolute_distance(ours: Tensor, theirs: Tensor) -> Tensor:
    """Returns the sum of absolute differences."""
    return (ours - theirs).abs().sum()


DISTANCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "squared": squared_distance,
    "absolute": absolute_distance,
}
LAYERS = {"all": 2, "convolutions": 4}
