"""Published values beside what was measured: reproduced, above, or by how much not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, final

from experiments.errors import CommandError
from experiments.reporting.runs import Run
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import mean_interval

_COLUMNS = (
    Column("command", "Runs with the words", "code"),
    Column("metric", "Metric"),
    Column("seeds", "Seeds", "count"),
    Column("measured", "Measured", "percent"),
    Column("published", "Published", "percent"),
    Column("verdict", "Verdict"),
    Column("source", "Source"),
)


@final
@dataclass(frozen=True)
class Published:
    """A value that somebody else printed, and when ours counts as the same.

    Attributes:
        words: Words of the commands that measure it, as on a command line.
        metric: Name of the metric in a record.
        value: What was printed, in [0, 1].
        within: Distance up to which it is reproduced.
        source: Where it was printed, and how it was measured if otherwise.
    """

    words: str
    metric: str
    value: float
    within: float
    source: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """Returns what an entry of a comparison's ``published`` says.

        Raises:
            CommandError: If a key is missing or unknown.
        """
        wanted = {"words", "metric", "value", "within", "source"}
        if set(entry) != wanted:
            raise CommandError(
                f"an entry of published must have the keys {', '.join(sorted(wanted))}, "
                f"got {', '.join(sorted(entry))}"
            )
        return cls(**entry)

    def measured_by(self, runs: Iterable[Run]) -> list[float]:
        """Returns the metric of each completed run whose command has all the words."""
        words = set(self.words.split())
        found = [
            run.number(self.metric)
            for run in runs
            if run.completed and words <= set(run.text("command").split())
        ]
        return [value for value in found if value is not None]

    def verdict(self, mean: float) -> str:
        """Returns what a mean is beside the published value.

        >>> Published("", "accuracy", 0.9, 0.02, "").verdict(0.87)
        'not reproduced: 3.0 points below'
        """
        distance = round(mean - self.value, 9)
        if abs(distance) <= self.within:
            return "reproduced"
        points = f"{100 * abs(distance):.1f} points"
        return f"{points} above" if distance > 0 else f"not reproduced: {points} below"


def published_values(targets: Sequence[Published], runs: Sequence[Run]) -> Table | None:
    """Returns each published value beside the mean of the runs that measure it; None without."""
    rows = []
    for target in targets:
        values = target.measured_by(runs)
        if values:
            interval = mean_interval(values)
            cells: tuple[Cell, ...] = (
                target.words,
                target.metric.replace("_", " "),
                float(len(values)),
                interval,
                target.value,
                target.verdict(interval.mean),
                target.source,
            )
            rows.append(cells)
    if not rows:
        return None
    notes = ("Reproduced: the mean is within the distance that the comparison's file states.",)
    return Table("published", "Published values", _COLUMNS, tuple(rows), notes=notes)
