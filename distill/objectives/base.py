"""The seam between sets and losses: an objective pulls on images and never sees their numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from distill.condenser import State
from distill.labels import Labels
from distill.learned import Learned
from distill.real import RealData


class Objective(ABC):
    """What a synthetic set is asked for. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Refuses labels or a learned step size that would get no gradient, or a wrong one.

        Args:
            labels: How images are labelled.
            rates: The step sizes that are learned, as they start, in order; none: empty.

        Raises:
            ValueError: Saying which would do.
        """

    @abstractmethod
    def begin(self, real: RealData, state: State) -> "Pulling":
        """Returns the objective at work.

        Args:
            real: The real images.
            state: What :meth:`Pulling.state` left earlier; empty at a fresh start.
        """


class Pulling(ABC):
    """An objective at work: what it keeps from step to step is its networks."""

    @abstractmethod
    def step(self, index: int, small: Learned) -> float:
        """Adds this step's gradient to the set's parameters and returns the loss.

        Args:
            index: The number of the step, which names its random streams.
            small: The set as it is now.
        """

    @abstractmethod
    def state(self) -> State:
        """Returns what :meth:`Objective.begin` needs to go on from here."""
