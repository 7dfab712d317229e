r"""A terminal for a trajectory that is given: end where it ends some points later (DynaFed).

Of given weights :math:`w_0, \dots, w_L`, training starts at a drawn :math:`w_s` and is compared
with the mean of the next :math:`M` of them,

.. math:: w^* = \frac{1}{M} \sum_{j=1}^{M} w_{s+j}, \qquad
    L = \frac{\|\theta_T - w^*\|_2^2}{\|w_s - w^*\|_2^2} .

References:
    | DynaFed: Tackling Client Data Heterogeneity with Global Dynamics (Pi, Zhang, Xie, Gao, Wang,
    | Kim and Chen, CVPR 2023), https://arxiv.org/abs/2211.10878

Differences from the paper: the points have equal weights; its released code draws them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.given import check_all_alike
from distill.networks import Architecture, ImageShape, Network
from distill.objectives.trajectory import relative_distance
from distill.objectives.unrolled import Ending, Terminal
from distill.pullback import Weights
from distill.real import RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class GivenTrajectory(Terminal):
    """The distance from a later part of the trajectory that the task gives.

    Attributes:
        architecture: What its networks are.
        span: M, the points after the start whose mean is to be reached, >= 1.
    """

    architecture: Architecture
    span: int

    def __post_init__(self) -> None:
        whole("objective.terminal.span", self.span, 1)

    def check_given(self, given: Sequence[Weights], image_shape: ImageShape, classes: int) -> None:
        """Refuses fewer points than the span needs, or of another architecture.

        Raises:
            ValueError: Saying so.
        """
        if len(given) <= self.span:
            raise ValueError(
                f"objective.terminal.span must be < {len(given)}, the points of the trajectory "
                f"that the task gives, got {self.span}"
            )
        check_all_alike("objective.terminal", given, self.architecture, image_shape, classes)

    def begin(self, real: RealData, state: State) -> Ending:  # noqa: ARG002
        """Returns the terminal at work.

        Raises:
            ValueError: If the task gives fewer points than the span needs, or of another
                architecture.
        """
        self.check_given(real.given, real.image_shape, real.num_classes)
        return _Ending(self, real)


class _Ending(Ending):
    def __init__(self, terminal: GivenTrajectory, real: RealData) -> None:
        self.terminal, self.real = terminal, real
        self.network = real.fresh(terminal.architecture, "network of the trajectory")

    def start(self, index: int) -> tuple[Network, Weights]:
        return self.network, self.real.given[self._drawn(index)]

    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        s, span = self._drawn(index), self.terminal.span
        points = self.real.given[s + 1 : s + 1 + span]
        target = {name: torch.stack([w[name] for w in points]).mean(0) for name in weights}
        return relative_distance(weights, self.real.given[s], target)

    def _drawn(self, index: int) -> int:
        rng = derive(self.real.seed, "start of step", index)
        return int(torch.randint(len(self.real.given) - self.terminal.span, (1,), generator=rng))

    def state(self) -> State:
        return {}
