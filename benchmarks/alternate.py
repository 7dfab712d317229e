"""Two ways of doing one thing, timed in turns, so that other work on the machine slows both.

Wall time is what a user waits for. Processor time, the sum over threads, moves far less where
other work takes the cores away; with one thread it is what the wall time of a quiet machine is.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import final


@final
@dataclass(frozen=True)
class Timings:
    """What the calls of both sides took, each of ours just after its partner in ``theirs``.

    Attributes:
        theirs: Seconds of every call of what is compared with.
        ours: Seconds of every call of ours.
    """

    theirs: Sequence[float]
    ours: Sequence[float]

    @property
    def ratio(self) -> float:
        """How many times faster ours is: the ratio of the medians.

        >>> Timings([4.0, 9.0, 5.0], [2.0, 2.5, 7.0]).ratio
        2.0
        """
        return median(self.theirs) / median(self.ours)

    @property
    def pairs(self) -> Sequence[float]:
        """The ratio of each pair, ascending: how far other work on the machine moves it."""
        return sorted(t / o for t, o in zip(self.theirs, self.ours, strict=True))

    def row(self, name: str) -> str:
        """Returns both medians with their ranges, and the ratio, on one line."""
        ratios = f"{self.ratio:.2f} times (pairs {self.pairs[0]:.2f} to {self.pairs[-1]:.2f})"
        return f"{name:<10}{_spread(self.theirs):<32}{_spread(self.ours):<32}{ratios}"


@final
@dataclass(frozen=True)
class Comparison:
    """The same calls by two clocks.

    Attributes:
        wall: By the wall clock.
        processor: By the processor time of all threads.
    """

    wall: Timings
    processor: Timings

    def table(self, theirs: str) -> str:
        """Returns three lines: who is compared, and what they took by each clock."""
        head = f"{'':<10}{theirs:<32}{'ours':<32}{len(self.wall.ours)} pairs of calls"
        return "\n".join([head, self.wall.row("wall"), self.processor.row("processor")])


def alternate(theirs: Callable[[], object], ours: Callable[[], object], rounds: int) -> Comparison:
    """Calls both once untimed, then in turns, and returns what each call took.

    Args:
        theirs: What is compared with.
        ours: What is measured.
        rounds: Timed calls of each, >= 1.

    Raises:
        ValueError: If there is no round.
    """
    if rounds < 1:
        raise ValueError(f"rounds must be >= 1, got {rounds}")
    theirs()
    ours()
    pairs = [(taken(theirs), taken(ours)) for _ in range(rounds)]
    wall, processor = (
        Timings([t[clock] for t, _ in pairs], [o[clock] for _, o in pairs]) for clock in (0, 1)
    )
    return Comparison(wall, processor)


def taken(call: Callable[[], object]) -> tuple[float, float]:
    """Returns the wall and the processor seconds of one call."""
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def _spread(taken: Sequence[float]) -> str:
    return f"{median(taken):.3f} s ({min(taken):.3f} to {max(taken):.3f})"
