r"""The kernels of ridge regression: embeddings of networks in training, or of infinite width.

The feature kernel is :math:`\langle \psi(a), \psi(b) \rangle` under networks of a source.

The neural tangent kernel :math:`\Theta` of a fully connected ReLU network with :math:`L`
hidden layers of infinite width follows from the covariance :math:`\Sigma`, starting at
:math:`\Sigma = \Theta = \langle a, b \rangle / d`, by

.. math:: \Sigma' = \frac{s}{\pi} \big(\sin\phi + (\pi - \phi) \cos\phi\big), \quad
    \dot\Sigma = \frac{\pi - \phi}{\pi}, \quad \Theta' = \Sigma' + \Theta\, \dot\Sigma

for each layer, with :math:`s = \sqrt{\Sigma(a, a) \Sigma(b, b)}` and
:math:`\cos\phi = \Sigma(a, b) / s`.

References:
    | Dataset Distillation using Neural Feature Regression (Zhou et al., NeurIPS 2022)
    | https://arxiv.org/abs/2206.00719
    | Neural Tangent Kernel: Convergence and Generalization in Neural Networks (Jacot et al.,
    | NeurIPS 2018), https://arxiv.org/abs/1806.07572
    | Kernel Methods for Deep Learning (Cho and Saul, NeurIPS 2009)
    | Dataset Meta-Learning from Kernel Ridge-Regression (Nguyen et al., ICLR 2021)
    | https://arxiv.org/abs/2011.00050

Differences from the papers: KIP's best numbers use convolutional kernels, which take days of
many machines; the fully connected one is that of its first paper.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.learned import Learned
from distill.network_sources import Networks, NetworkSource
from distill.objectives.distribution import embedded
from distill.objectives.kernel import Grams, Kernel
from distill.real import RealData

WITHIN = 1 - 1e-12  # of cosines: the slope of the angle is infinite at one


@final
@dataclass(frozen=True)
class FeatureKernel(Kernel):
    """Products of embeddings (FRePo).

    Attributes:
        networks: What embeds.
    """

    networks: NetworkSource

    def begin(self, real: RealData, state: State) -> Grams:
        """Returns the kernel at work."""
        return _FeatureGrams(self.networks.begin(real, state))


class _FeatureGrams(Grams):
    def __init__(self, networks: Networks) -> None:
        self.networks = networks

    def take(self, index: int, small: Learned, real: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        network = self.networks.take(index, small)
        theirs, ours = embedded(network, real).double(), network.embed(leaf).double()
        return theirs @ ours.T, ours @ ours.T

    def state(self) -> State:
        return self.networks.state()


@final
@dataclass(frozen=True)
class TangentKernel(Kernel):
    """The neural tangent kernel of a wide fully connected network (KIP).

    Attributes:
        depth: L, hidden layers, >= 1.
    """

    depth: int

    def __post_init__(self) -> None:
        whole("objective.kernel.depth", self.depth, 1)

    def begin(self, real: RealData, state: State) -> Grams:  # noqa: ARG002
        """Returns the kernel at work; it leaves nothing to keep."""
        return _TangentGrams(self.depth)


class _TangentGrams(Grams):
    def __init__(self, depth: int) -> None:
        self.depth = depth

    def take(self, index: int, small: Learned, real: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        theirs, ours = real.flatten(1).double(), leaf.flatten(1).double()
        return tangent(theirs, ours, self.depth), tangent(ours, ours, self.depth)

    def state(self) -> State:
        return {}


def tangent(left: Tensor, right: Tensor, depth: int) -> Tensor:
    """Returns the tangent kernel of flat images: ``(n, D), (m, D)`` to ``(n, m)``."""
    size = left.shape[1]
    covariance = kernel = left @ right.T / size
    # ReLU keeps a variance under this scaling, so one product of norms serves all layers.
    scale = (left.square().mean(1).unsqueeze(1) * right.square().mean(1)).sqrt()
    for _ in range(depth):
        cosine = (covariance / scale.clamp(min=torch.finfo(left.dtype).tiny)).clamp(-WITHIN, WITHIN)
        angle = cosine.acos()
        covariance = scale * (angle.sin() + (math.pi - angle) * cosine) / math.pi
        kernel = covariance + kernel * (math.pi - angle) / math.pi
    return kernel
