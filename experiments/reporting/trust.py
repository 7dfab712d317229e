"""What attacks achieved and whom defences set aside, for arms that have either."""

from experiments.reporting.arms import Arm
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table

_COLUMNS = (
    Column("accuracy", "Clean accuracy", "percent"),
    Column("attack_success", "Attack success", "percent"),
    Column("rejected_malicious", "Malicious set aside", "percent"),
    Column("rejected_honest", "Honest set aside", "percent"),
    Column("rejected_rare", "Of those with rare classes", "percent"),
    Column("failures", "Failures", "count"),
)
# What a run records only where there is an attack or a defence.
METRICS = frozenset({"malicious", *(column.key for column in _COLUMNS[1:5])})
_SUCCESS = (
    "Attack success: test images, of other classes and with the trigger, that are answered by the "
    "target; with flipped labels, those of the source. A dash: the attack wants no one answer."
)
_ASIDE = (
    "Set aside: uploads of the right form that the defence left out, of those that came, in all "
    "seeds' means, without intervals, as they are few. Rare: a class that at most two clients hold."
)


def contested(section: Section) -> list[Arm]:
    """Returns the arms with an attack or a defence."""
    return [arm for arm in section.arms if METRICS & arm.runs[0].metrics.keys()]


def trust(section: Section) -> Table | None:
    """Returns each contested arm's accuracy, attack success and rejections; None without any."""
    arms = contested(section)
    if not arms:
        return None
    head = (Column("arm", "Arm"), Column("seeds", "Seeds", "count"), *_COLUMNS)
    rows = tuple(_row(arm) for arm in arms)
    return Table(
        f"{section.slug}-trust", "Attacks and defences", head, rows, notes=(_SUCCESS, _ASIDE)
    )


def _row(arm: Arm) -> tuple[Cell, ...]:
    outcome, aside = _COLUMNS[:2], _COLUMNS[2:]
    means = (*(arm.interval(c.key) for c in outcome), *(arm.mean(c.key) for c in aside))
    return (arm.label, float(len(arm.runs)), *means)
