"""One shot against rounds: what each sends for an accuracy."""

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np

from experiments.reporting.arms import Arm
from experiments.reporting.numbers import bytes_text
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import Interval, mean_interval

MARK = 0.9  # an accuracy that every pair is asked for, beside that of its one-shot arm

_BYTES_TO_REACH = (
    Column("one_shot", "One-shot arm"),
    Column("accuracy", "Its accuracy", "percent"),
    Column("bytes", "It sends", "bytes"),
    Column("raw_ratio", "Of raw images", "share"),
    Column("by_rounds", "By rounds"),
    Column("equal_bytes", "Needs for that accuracy", "bytes"),
    Column("equal_ratio", "One shot, of those bytes", "share"),
    Column("mark_bytes", f"Needs for {100 * MARK:g} %", "bytes"),
    Column("mark_ratio", "One shot, of those bytes", "share"),
)


def bytes_to_reach(section: Section) -> Table | None:
    """Returns what each one-shot arm sends, as a share of what it takes by rounds.

    By rounds is every iterative arm under the same conditions, up to the first round at the
    one-shot arm's mean accuracy, and at MARK. None where there is no such pair.
    """
    points = [arm for arm in section.arms if not arm.iterative and arm.interval("accuracy")]
    curves = [arm for arm in section.arms if arm.iterative]
    pairs = [(p, arm) for p in points for arm in curves if p.conditions == arm.conditions]
    if not pairs:
        return None
    rows = tuple(_bytes_row(point, arm) for point, arm in pairs)
    title = "One shot against rounds: bytes to reach an accuracy"
    notes = tuple(_bytes_notes([point for point, _ in pairs]))
    return Table(f"{section.slug}-bytes-to-reach", title, _BYTES_TO_REACH, rows, notes=notes)


def _bytes_notes(points: Iterable[Arm]) -> Iterator[str]:
    yield (
        "Bytes of both directions; by rounds, those up to the first round at that accuracy, mean "
        "over seeds. Below 100 % of those bytes, one shot is cheaper than rounds; below 100 % of "
        "raw images, it is cheaper than sending the clients' images themselves."
    )
    if any(cast(float, point.mean("accuracy")) < MARK for point in points):
        mark = f"{100 * MARK:g} %"
        yield f"One-shot arms that stay below {mark} themselves are compared there by bytes alone."


def _bytes_row(point: Arm, arm: Arm) -> tuple[Cell, ...]:
    accuracy, sent = point.interval("accuracy"), point.interval("bytes_total")
    cells: list[Cell] = [point.label, accuracy, sent, point.interval("raw_ratio"), arm.label]
    for target in (cast(Interval, accuracy).mean, MARK):
        needed = _bytes_needed(arm, target)
        cells += [needed, _ratio(sent, needed)]
    return tuple(cells)


def _ratio(sent: Interval | None, needed: Interval | str) -> float | None:
    return sent.mean / needed.mean if sent and isinstance(needed, Interval) else None


def _bytes_needed(arm: Arm, accuracy: float) -> Interval | str:
    found = [x for run in arm.runs if (x := reach(run, accuracy)) is not None]
    if len(found) == arm.seeds:
        return mean_interval(found)
    if found:
        return f"{len(found)} of {arm.seeds} seeds reach it"
    return f"not within {bytes_text(arm.mean('bytes_total') or 0.0)}"


def reach(run: Run, accuracy: float) -> float | None:
    """Returns the bytes a run has sent when it first reaches an accuracy; None if it never does."""
    at = np.flatnonzero(run.curve("accuracy") >= accuracy)
    return float(run.bytes_so_far()[at[0]]) if len(at) else None
