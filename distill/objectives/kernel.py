r"""Kernel ridge regression (KIP, FRePo): the set's best linear answer on real images.

With a kernel's Gram matrices :math:`K_{ss}` of the :math:`n` synthetic images and
:math:`K_{ts}` of real against synthetic ones, and synthetic targets :math:`Y_s`,

.. math:: L = \frac{1}{2B} \Big\| K_{ts} \big(K_{ss} + \lambda \tfrac{\mathrm{tr} K_{ss}}{n} I
    \big)^{-1} Y_s - Y_t \Big\|_2^2

where :math:`Y_t` are centred one-hot labels of :math:`B` real images.

References:
    | Dataset Distillation with Infinitely Wide Convolutional Networks (Nguyen et al., NeurIPS
    | 2021), https://arxiv.org/abs/2107.13034
    | Dataset Distillation using Neural Feature Regression (Zhou et al., NeurIPS 2022)
    | https://arxiv.org/abs/2206.00719

Differences from the papers: Gram matrices and their solution are in float64, as single precision
resolves no eigenvalue below :math:`10^{-7}` of the largest, and :math:`\lambda = 10^{-6}` of the
mean can be less: an answer is then noise. FRePo's hinge on the margin of learned labels is left
out; its networks have batch normalisation and its optimiser is LAMB, here those that are
configured. FRePo's step size of the set falls along a cosine to a tenth; here it has no schedule.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.checks import positive, whole
from distill.condenser import State
from distill.labels import HardLabels, Labels, LearnedLabels, centred, scores
from distill.learned import Learned
from distill.objectives.base import Objective, Pulling
from distill.real import RealData
from distill.rng import derive
from distill.training import augmented


class Kernel(ABC):
    """Says how alike images are. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def begin(self, real: RealData, state: State) -> "Grams":
        """Returns the kernel at work; ``state`` is what it left earlier, or empty."""


class Grams(ABC):
    """A kernel at work."""

    @abstractmethod
    def take(self, index: int, small: Learned, real: Tensor, leaf: Tensor) -> tuple[Tensor, Tensor]:
        """Returns :math:`K_{ts}` ``(B, n)`` and :math:`K_{ss}` ``(n, n)`` of a step, float64.

        Args:
            index: The number of the step.
            small: The set, for kernels that learn from it.
            real: Real images ``(B, C, H, W)``.
            leaf: Synthetic images ``(n, C, H, W)``, to which gradients flow.
        """

    @abstractmethod
    def state(self) -> State:
        """Returns what :meth:`Kernel.begin` needs to go on from here."""


@final
@dataclass(frozen=True)
class KernelRidge(Objective):
    r"""Ridge regression from the set to real images.

    Attributes:
        kernel: Says how alike images are.
        ridge: :math:`\lambda`, relative to the mean of the diagonal, > 0; 1e-6.
        real_batch: Real images a step, of all classes, >= 1.
        augmentation: Drawn per synthetic image, one family a step.
    """

    kernel: Kernel
    ridge: float
    real_batch: int
    augmentation: Augmentation

    def __post_init__(self) -> None:
        positive("objective.ridge", self.ridge)
        whole("objective.real_batch", self.real_batch, 1)

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Takes classes and free numbers, which centred labels can be compared with.

        Raises:
            ValueError: If labels are distributions, or a step size is to be learned.
        """
        if not isinstance(labels, HardLabels | LearnedLabels):
            raise ValueError(
                "labels must be hard or learned where ridge regression answers with centred "
                "labels, got distributions; take labels=learned"
            )
        if rates:
            raise ValueError(
                f"method.rate must be null where no training is unrolled, got {rates[0]}"
            )

    def begin(self, real: RealData, state: State) -> Pulling:
        """Returns the objective at work."""
        return _Regressing(self, real, self.kernel.begin(real, state))


class _Regressing(Pulling):
    def __init__(self, objective: KernelRidge, real: RealData, grams: Grams) -> None:
        self.objective, self.real, self.grams = objective, real, grams

    def step(self, index: int, small: Learned) -> float:
        rng = derive(self.real.seed, "step", index)
        real = self.real.mixed(self.objective.real_batch, rng)
        rows = torch.arange(len(small))
        images = small.images(rows).requires_grad_()
        targets = scores(small.targets(rows), self.real.num_classes).requires_grad_()
        seen = augmented(images, self.objective.augmentation, rng)
        across, among = self.grams.take(index, small, real.images, seen)
        answers = ridge_answers(across, among, targets.double(), self.objective.ridge)
        gaps = answers - centred(real.labels, self.real.num_classes)
        loss = gaps.square().sum() / (2 * len(real))
        small.pull(rows, *torch.autograd.grad(loss, (images, targets)))
        return loss.item()

    def state(self) -> State:
        return self.grams.state()


def ridge_answers(across: Tensor, among: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Returns what ridge regression answers: ``(B, n), (n, n), (n, C)`` to ``(B, C)``."""
    weight = ridge * among.diagonal().mean()
    regular = among + weight * torch.eye(len(among), dtype=among.dtype, device=among.device)
    weights: Tensor = torch.linalg.solve(regular, targets)
    return across @ weights
