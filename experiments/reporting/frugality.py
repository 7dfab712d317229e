"""What sending less costs: arms of the front against the best of those that send more."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from experiments.reporting.arms import Arm, paired, pairs
from experiments.reporting.fronts import front
from experiments.reporting.sections import EQUAL, Section
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import Interval

_COLUMNS = (
    Column("arm", "Arm"),
    Column("sent", "Sends", "bytes"),
    Column("versus", "Against"),
    Column("versus_sent", "Sends", "bytes"),
    Column("times", "Times as much", "ratio"),
    Column("pairs", "Pairs", "count"),
    Column("accuracy", "Accuracy", "points"),
    Column("worst_client_accuracy", "Worst client", "points"),
)


@final
@dataclass(frozen=True)
class _Standing:
    arm: Arm
    sent: float
    accuracy: Interval


def frugality(section: Section) -> Table | None:
    """Returns each arm of the front beside the best arm that sends more under its conditions.

    None where no such two share two seeds: one difference has no spread to be judged by.
    """
    rows = tuple(row for arms in section.rivals for row in _rows(arms))
    if not rows:
        return None
    note = (
        "Arms that no other beats with as many bytes or fewer, against the best mean among those "
        "that send more under the same conditions; bytes of both directions. The arm minus the "
        "other on the same seeds, with the paired 95 % t-interval, not corrected for the picking: "
        "where it holds 0, these seeds don't show that what is sent beyond buys anything."
    )
    title = "What sending less costs"
    return Table(f"{section.slug}-frugality", title, _COLUMNS, rows, notes=(note,))


def _rows(arms: Sequence[Arm]) -> Iterator[tuple[Cell, ...]]:
    standings = [
        _Standing(arm, sent, accuracy)
        for arm in arms
        if (sent := arm.mean("bytes_total")) and (accuracy := arm.interval("accuracy"))
    ]
    for cheap in front(standings):
        more = (1 + EQUAL) * cheap.sent
        able = (s for s in standings if pairs("accuracy", cheap.arm, s.arm) > 1)
        dearer = [other for other in able if other.sent > more]
        if dearer:
            yield _row(cheap, max(dearer, key=lambda other: other.accuracy.mean))


def _row(cheap: _Standing, other: _Standing) -> tuple[Cell, ...]:
    return (
        cheap.arm.label,
        cheap.sent,
        other.arm.label,
        other.sent,
        other.sent / cheap.sent,
        float(pairs("accuracy", cheap.arm, other.arm)),
        paired("accuracy", cheap.arm, other.arm),
        paired("worst_client_accuracy", cheap.arm, other.arm),
    )
