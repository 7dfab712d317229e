r"""A terminal around a given network (DOSFL): training starts near it, and ends as another asks.

From given weights :math:`\theta`, the first network that all clients share, training starts at

.. math:: \theta_0 \sim N(\theta, \sigma^2 I) ,

drawn anew for every step of the set. So its images serve from weights that others have moved.

References:
    | Distilled One-Shot Federated Learning (Zhou, Pu, Ma, Li and Wu, 2020)
    | https://arxiv.org/abs/2009.07999, where this is called a soft reset

Differences from the paper: none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import at_least
from distill.condenser import State
from distill.networks import ImageShape, Network
from distill.objectives.unrolled import Ending, Terminal
from distill.pullback import Weights, check_alike
from distill.real import RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class SoftReset(Terminal):
    r"""Another terminal's end, for training that starts around the task's last given network.

    Attributes:
        terminal: Says what is asked of the end.
        sigma: :math:`\sigma`, >= 0; at 0 every training starts from the given network.
    """

    terminal: Terminal
    sigma: float

    def __post_init__(self) -> None:
        at_least("objective.terminal.sigma", self.sigma, 0)

    def check_given(
        self,
        given: Sequence[Weights],
        image_shape: ImageShape,  # noqa: ARG002  its terminal has the architecture
        classes: int,  # noqa: ARG002
    ) -> None:
        """Refuses a task that gives no network.

        Raises:
            ValueError: Saying so.
        """
        if not given:
            raise ValueError(
                "objective=soft_reset must have a network to start around, as a federated "
                "round gives, got none; take objective=unrolled"
            )

    def begin(self, real: RealData, state: State) -> Ending:
        """Returns the terminal at work.

        Raises:
            ValueError: If the task gives no network, or one of another architecture.
        """
        self.check_given(real.given, real.image_shape, real.num_classes)
        ending = self.terminal.begin(real, state)
        check_alike("objective.terminal.terminal", real.given[-1], ending.start(0)[0])
        return _Ending(self, real, ending)


class _Ending(Ending):
    def __init__(self, terminal: SoftReset, real: RealData, ending: Ending) -> None:
        self.sigma, self.real, self.ending = terminal.sigma, real, ending

    def start(self, index: int) -> tuple[Network, Weights]:
        network, _ = self.ending.start(index)
        rng = derive(self.real.seed, "soft reset", index)
        return network, {
            name: w + self.sigma * torch.randn(w.shape, generator=rng).to(w)
            for name, w in self.real.given[-1].items()
        }

    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        return self.ending.end(index, weights)

    def state(self) -> State:
        return self.ending.state()
