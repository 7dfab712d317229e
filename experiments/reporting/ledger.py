"""Every run by itself: its command and cost, and why those that failed did."""

from collections.abc import Sequence

from experiments.reporting.runs import Run
from experiments.reporting.tables import Column, Table

_COMMANDS = (
    Column("command", "Command", "code"),
    Column("seed", "Seed", "count"),
    Column("seconds", "Time", "seconds"),
    Column("peak_rss_bytes", "Peak memory", "bytes"),
    Column("status", "Status"),
)
_FAILURES = (
    Column("name", "Run"),
    Column("seed", "Seed", "count"),
    Column("error", "Error"),
    Column("command", "Command", "code"),
)


def commands(runs: Sequence[Run]) -> Table:
    """Returns the command of every run with what it cost."""
    rows = tuple(
        (
            run.text("command"),
            float(run.seed),
            run.number("seconds"),
            run.number("peak_rss_bytes"),
            run.text("status"),
        )
        for run in runs
    )
    return Table("commands", "Commands", _COMMANDS, rows)


def failures(runs: Sequence[Run]) -> Table | None:
    """Returns the runs that failed and why; None if none did."""
    rows = tuple(
        (run.name, float(run.seed), run.text("error"), run.text("command"))
        for run in runs
        if not run.completed
    )
    if not rows:
        return None
    notes = ("These runs take no part in any average.",)
    return Table("failed-runs", "Failed runs", _FAILURES, rows, notes=notes)
