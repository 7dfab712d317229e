r"""How the step size of training changes while it goes on.

In an epoch whose middle lies at the share :math:`p` of all epochs, in (0, 1), the step size
is :math:`\eta f(p)`:

- steps: :math:`f = \gamma^k`, where :math:`k` of the given shares lie before :math:`p`;
- cosine: :math:`f = p / w` while :math:`p < w`, the warm-up, and then
  :math:`\frac12 \big(1 + \cos \pi \frac{p - w}{1 - w}\big)`.

Shares, not epochs, so that a schedule means the same for any number of updates; the middle,
so that no epoch is wasted on a step size of zero.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from distill.checks import below_one, listed, positive


class Schedule(ABC):
    """A course of step sizes. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def factor(self, share: float) -> float:
        """Returns :math:`f`, what the step size is multiplied by.

        Args:
            share: :math:`p`, how much of the training lies behind, in (0, 1).
        """


@final
@dataclass(frozen=True)
class Steps(Schedule):
    r"""The step size falls at some points (IDC).

    Attributes:
        after: The shares of training after which it falls, each in [0, 1).
        by: :math:`\gamma`, what it is multiplied by at each, > 0.
    """

    after: Sequence[float]
    by: float

    def __post_init__(self) -> None:
        listed("schedule.after", self.after)
        for share in self.after:
            below_one("schedule.after", share)
        positive("schedule.by", self.by)

    def factor(self, share: float) -> float:
        """Returns :math:`f`."""
        return self.by ** sum(point < share for point in self.after)


@final
@dataclass(frozen=True)
class Cosine(Schedule):
    """The step size rises, if it warms up, and falls to zero along half a cosine (GLaD, RDED).

    Attributes:
        warm_up: w, the share of training in which it rises, in [0, 1).
    """

    warm_up: float

    def __post_init__(self) -> None:
        below_one("schedule.warm_up", self.warm_up)

    def factor(self, share: float) -> float:
        """Returns :math:`f`."""
        if share < self.warm_up:
            return share / self.warm_up
        return (1 + math.cos(math.pi * (share - self.warm_up) / (1 - self.warm_up))) / 2
