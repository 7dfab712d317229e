r"""Maximum mean discrepancy (M3D): match all moments of the embeddings of a class.

With a Gaussian kernel :math:`k(a, b) = \exp(-\|a - b\|^2 / 2 \sigma^2)` on embeddings
:math:`\psi`, class :math:`c` with real images :math:`x` and synthetic images :math:`s` adds

.. math:: \overline{k(\psi(x), \psi(x'))} + \overline{k(\psi(s), \psi(s'))}
    - 2\, \overline{k(\psi(x), \psi(s))}

where the bars are means over all pairs. A linear kernel would give distribution matching.

References:
    | M3D: Dataset Condensation by Minimizing Maximum Mean Discrepancy (Zhang et al., AAAI 2024)
    | https://arxiv.org/abs/2312.15927

Differences from the paper: its code is not public. Networks are those of the configured
source, fresh ones by default, where the paper's are trained. The bandwidth is
:math:`\sigma^2 = b \cdot m`, with :math:`m` the mean squared distance of real embeddings of
one class (also from themselves, which is 0), so that no scale has to be tuned for an
architecture; :math:`b` is a field. A class of one real image has no such distance: its
:math:`m` is the square of its embedding's length. It mustn't follow the synthetic images, or
the loss would be the same however near they come.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import positive
from distill.networks import Network
from distill.objectives.distribution import embedded
from distill.objectives.matching import Separable
from distill.real import ClassBatch


@final
@dataclass(frozen=True)
class MeanDiscrepancy(Separable):
    """The squared MMD of embeddings, summed over classes.

    Attributes:
        bandwidth: b, the square of the kernel's width over the mean squared distance, > 0.
    """

    bandwidth: float

    def __post_init__(self) -> None:
        positive("bandwidth", self.bandwidth)

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the discrepancy of each class, ``(K,)``."""
        theirs, ours = embedded(network, real.images), network.embed(synthetic.images)
        losses = [
            self._discrepancy(theirs[real.groups == group], ours[synthetic.groups == group])
            for group in range(real.classes)
        ]
        return torch.stack(losses)

    def _discrepancy(self, real: Tensor, synthetic: Tensor) -> Tensor:
        among_real, between = squared_distances(real, real), squared_distances(real, synthetic)
        mean = among_real.mean() if len(real) > 1 else real.square().sum()
        scale = 2 * self.bandwidth * mean.clamp(min=torch.finfo(real.dtype).tiny)
        return (
            (-among_real / scale).exp().mean()
            + (-squared_distances(synthetic, synthetic) / scale).exp().mean()
            - 2 * (-between / scale).exp().mean()
        )


def squared_distances(left: Tensor, right: Tensor) -> Tensor:
    """Returns the squared distances of rows: ``(n, D)`` and ``(m, D)`` to ``(n, m)``."""
    squares = left.square().sum(1).unsqueeze(1) + right.square().sum(1)
    return (squares - 2 * left @ right.T).clamp(min=0)
