r"""The terminal of trajectory matching (MTT, DATM): end where an expert ends, many epochs later.

Training starts from an expert's weights :math:`\theta^*_e` after :math:`e` epochs, and its
end is compared with the expert's after :math:`e + M`:

.. math:: L = \frac{\|\theta_T - \theta^*_{e+M}\|_2^2}{\|\theta^*_e - \theta^*_{e+M}\|_2^2} .

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., CVPR 2022)
    | https://arxiv.org/abs/2203.11932
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching
    | (Guo et al., ICLR 2024), https://arxiv.org/abs/2310.05773: the latest start grows with
    | the steps, from easy to hard patterns

Differences from the papers: experts are few and small, trained when they are first drawn. DATM's
are FTD's, whose trajectories are flatter; it steps only where the loss is at most 1, moves labels
with a momentum of 0.9 (0.5 here, so that steps add up to a fifth), and lets the latest start grow
from 10 of 20 epochs on, here from the earliest.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.expert import Buffer, Experts, Trajectory
from distill.networks import Network
from distill.objectives.unrolled import Ending, Terminal
from distill.pullback import Weights
from distill.real import RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class ExpertDistance(Terminal):
    """The normalised distance from an expert.

    Attributes:
        experts: The experts.
        span: M, the epochs of the expert that the set's training is to make up for, >= 1.
        earliest: Least epoch e to start at, >= 0.
        latest: Largest epoch e to start at, >= ``earliest``; T+ - 1 in MTT, which draws e < T+.
        growth: Steps over which the largest start grows from ``earliest`` to ``latest``
            (DATM); 0: it is ``latest`` from the beginning (MTT).
    """

    experts: Experts
    span: int
    earliest: int
    latest: int
    growth: int

    def __post_init__(self) -> None:
        whole("objective.terminal.span", self.span, 1)
        whole("objective.terminal.earliest", self.earliest, 0)
        whole("objective.terminal.latest", self.latest, self.earliest)
        whole("objective.terminal.growth", self.growth, 0)
        if self.latest + self.span > self.experts.epochs:
            raise ValueError(
                f"experts.epochs must be >= {self.latest + self.span}, the latest start and the "
                f"span, got {self.experts.epochs}"
            )

    def begin(self, real: RealData, state: State) -> Ending:
        """Returns the terminal at work."""
        return _Ending(self, real, self.experts.begin(real, state))


class _Ending(Ending):
    def __init__(self, terminal: ExpertDistance, real: RealData, buffer: Buffer) -> None:
        self.terminal, self.real, self.buffer = terminal, real, buffer

    def start(self, index: int) -> tuple[Network, Weights]:
        trajectory, epoch = self._drawn(index)
        return self.buffer.network, trajectory[epoch]

    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        trajectory, epoch = self._drawn(index)
        target = trajectory[epoch + self.terminal.span]
        return relative_distance(weights, trajectory[epoch], target)

    def _drawn(self, index: int) -> tuple[Trajectory, int]:
        terminal, rng = self.terminal, derive(self.real.seed, "expert of step", index)
        number = int(torch.randint(terminal.experts.count, (1,), generator=rng))
        grown = min(index / terminal.growth, 1.0) if terminal.growth else 1.0
        latest = terminal.earliest + int(grown * (terminal.latest - terminal.earliest))
        epoch = int(torch.randint(terminal.earliest, latest + 1, (1,), generator=rng))
        return self.buffer.trajectory(number), epoch

    def state(self) -> State:
        return self.buffer.state()


def relative_distance(
    weights: Weights, first: Weights, target: Weights
) -> tuple[float, dict[str, Tensor]]:
    """Returns the squared distance from a target as a share of the first one's, and its gradient.

    Args:
        weights: Where training ended.
        first: Where it began.
        target: Where it should have ended.

    Raises:
        FloatingPointError: If it should have ended where it began.
    """
    gaps = {name: w - target[name] for name, w in weights.items()}
    length = sum(float((w - target[name]).square().sum()) for name, w in first.items())
    if length == 0:
        raise FloatingPointError(
            "the trajectory must move away from where training begins, got a distance of 0 to its "
            "target; raise objective.terminal.span, or give another trajectory"
        )
    loss = sum(float(gap.square().sum()) for gap in gaps.values()) / length
    return loss, {name: 2 * gap / length for name, gap in gaps.items()}
