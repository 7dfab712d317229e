r"""Characteristic functions (NCFM): match embeddings' distributions at random frequencies.

With normalised embeddings :math:`f` and frequencies :math:`t \sim N(0, I)`, class :math:`c`
has :math:`\Phi(t) = \overline{e^{i \langle t, f \rangle}}`, and the loss is

.. math:: L = \sum_c \overline{\sqrt{
    \alpha (|\Phi_r| - |\Phi_s|)^2
    + (1 - \alpha) \cdot 2 (|\Phi_r| |\Phi_s| - \mathrm{Re}\, \Phi_r \Phi_s^*) }}

over the frequencies: a difference of amplitudes and one of phases.

References:
    | Dataset Distillation with Neural Characteristic Function: A Minmax Perspective
    | (Wang et al., CVPR 2025), https://arxiv.org/abs/2502.20653

Differences from the paper: frequencies are drawn, not sought by an adversarial network (the
released configurations switch that off, too); no cross-entropy term calibrates the images.
NCFM halves the set's step size where the loss stays as it is; here it has no schedule.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import fraction, whole
from distill.networks import Network
from distill.objectives.distribution import class_means, embedded
from distill.objectives.matching import Statistic, check_same_classes, differentiated
from distill.real import ClassBatch

TINY = 1e-12  # under roots, whose slope at zero is infinite


@final
@dataclass(frozen=True)
class CharacteristicFunction(Statistic):
    r"""The NCFM loss.

    Attributes:
        frequencies: How many are drawn a step, >= 1; 1,024 to 4,096 in the paper.
        amplitude: :math:`\alpha`, the weight of amplitudes against phases, in [0, 1]; 0.5.
    """

    frequencies: int
    amplitude: float

    def __post_init__(self) -> None:
        whole("frequencies", self.frequencies, 1)
        fraction("amplitude", self.amplitude)

    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> tuple[float, Tensor]:
        """Returns :math:`L` and its gradient on the synthetic images.

        Raises:
            ValueError: If the two batches differ in classes or in image shape.
        """
        check_same_classes(real, synthetic)
        theirs, ours = embedded(network, real.images), network.embed(synthetic.images)
        t = torch.randn(self.frequencies, ours.shape[1], generator=rng).to(ours)
        real_r, imaginary_r = _characteristic(theirs, real, t)
        real_s, imaginary_s = _characteristic(ours, synthetic, t)
        amplitude_r = (real_r.square() + imaginary_r.square() + TINY).sqrt()
        amplitude_s = (real_s.square() + imaginary_s.square() + TINY).sqrt()
        of_amplitude = (amplitude_r - amplitude_s).square()
        of_phase = amplitude_r * amplitude_s - real_r * real_s - imaginary_r * imaginary_s
        squares = self.amplitude * of_amplitude + (1 - self.amplitude) * 2 * of_phase
        return differentiated((squares.clamp(min=0) + TINY).sqrt().mean(1).sum(), synthetic)


def _characteristic(features: Tensor, batch: ClassBatch, t: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the real and the imaginary part of each class, ``(K, frequencies)`` each."""
    angles = F.normalize(features, dim=1) @ t.T
    return class_means(angles.cos(), batch), class_means(angles.sin(), batch)
