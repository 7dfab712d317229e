"""How long work takes, from a few of its units, done here and now."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from types import FrameType
from typing import final

from distill.work import Work

LOOK = 0.3  # seconds of units that are enough to know their pace
PATIENCE = 20.0  # seconds that one kind of work may take to show its pace
SAMPLES = 3  # pieces of work of one kind that are timed


@final
@dataclass(frozen=True)
class Pace:
    """How one kind of work goes.

    Attributes:
        warming: Seconds lost once in a process, before the first unit.
        first: Seconds of the first unit and what must be ready for it.
        unit: Seconds of each further one.
        units: Units of a piece whose number is not known beforehand.
    """

    warming: float
    first: float
    unit: float
    units: float

    @classmethod
    def of(cls, pieces: Sequence[Work]) -> "Pace":
        """Returns the pace of some pieces of one kind, from the smallest to the largest.

        Raises:
            TimeoutError: If it doesn't show in PATIENCE.
        """
        with patience():
            cold, _ = _timed(pieces[0], 1)
            looks = [_look(piece) for piece in pieces]
        first, unit, units = (fmean(column) for column in zip(*looks, strict=True))
        return cls(max(0.0, cold - first), first, unit, units)

    def seconds(self, work: Work) -> float:
        """Returns what a piece will take."""
        return self.first + self.unit * (self.units_of(work) - 1)

    def units_of(self, work: Work) -> float:
        """Returns the units of a piece."""
        return self.units if work.units is None else work.units


def spread_out(pieces: Sequence[Work]) -> list[Work]:
    """Returns SAMPLES pieces at even distances, the smallest and the largest among them."""
    ordered = sorted(pieces, key=lambda work: work.units or 0)
    last, count = len(ordered) - 1, min(SAMPLES, len(ordered))
    return [ordered[round(i * last / max(1, count - 1))] for i in range(count)]


def _look(work: Work) -> tuple[float, float, float]:
    first, total = _timed(work, 1)
    seconds, done = first, 1
    while seconds < LOOK and done < total:
        done = min(4 * done, total)
        seconds, _ = _timed(work, done)
    unit = max(0.0, seconds - first) / (done - 1) if done > 1 else first
    return first, unit, total


def _timed(work: Work, units: int) -> tuple[float, int]:
    clock = time.perf_counter()
    total = work.do(units)
    return time.perf_counter() - clock, total


@contextmanager
def patience() -> Iterator[None]:
    """Ends a block after PATIENCE.

    Raises:
        TimeoutError: If it does.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
