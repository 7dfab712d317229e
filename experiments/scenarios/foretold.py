"""What the forecasts of all scenarios share: the time of work, and the memory."""

from collections.abc import Mapping, Sequence

from distill.work import Work
from experiments.forecast import Prediction
from experiments.pace import PATIENCE, Pace, spread_out
from experiments.peak import peak_bytes

Times = tuple[Work, int]  # a piece of work, and how often the run does its like


def time_of(work: Sequence[Times], measured: Mapping[str, float]) -> list[Prediction]:
    """Returns the time of a run, then its parts.

    Args:
        work: All of it; a few pieces of each kind are timed here.
        measured: Seconds of what is no work, known already.
    """
    parts = [_part(name, work) for name in dict.fromkeys(piece.name for piece, _ in work)]
    parts += [
        Prediction(f"  {name}", seconds, "seconds", "measured here")
        for name, seconds in measured.items()
    ]
    known = [part.value for part in parts if part.value is not None]
    if len(known) < len(parts):
        return [Prediction("time", None, "seconds", "a part of it is not known"), *parts]
    return [Prediction("time", sum(known), "seconds", "this machine, as busy as now"), *parts]


def _part(name: str, work: Sequence[Times]) -> Prediction:
    pieces = [(piece, times) for piece, times in work if piece.name == name]
    samples = spread_out([piece for piece, _ in pieces])
    try:
        pace = Pace.of(samples)
    except TimeoutError:
        return Prediction(f"  {name}", None, "seconds", f"shows no pace in {PATIENCE:.0f} s")
    seconds = pace.warming + sum(times * pace.seconds(piece) for piece, times in pieces)
    steps = sum(times * pace.units_of(piece) for piece, times in pieces)
    basis = f"{steps:,.0f} steps of {1000 * pace.unit:.3g} ms, timed"
    return Prediction(f"  {name}", seconds, "seconds", basis)


def memory(counted: str) -> Prediction:
    """Returns the peak memory: that of this process, which holds what the run will hold."""
    basis = f"this process's so far, with {counted}"
    return Prediction("memory", float(peak_bytes()), "bytes", basis)
