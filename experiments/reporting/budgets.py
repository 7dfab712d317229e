"""What every federated arm has learnt by the time it has sent so many bytes."""

from collections.abc import Sequence

import numpy as np

from experiments.reporting.arms import Arm
from experiments.reporting.numbers import bytes_text
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table
from fedcl.statistics import mean_interval

# Bytes, 10 kB to 300 TB.
BUDGETS = tuple(step * 10**power for power in range(4, 15) for step in (1, 3))


def accuracy_within(section: Section) -> Table | None:
    """Returns each arm's accuracy after the last round that a budget of bytes allows.

    Budgets that change nothing, for all arms are done or none has begun, are left out; None
    where no two budgets are left, as with arms of a single round alone.
    """
    budgets = _telling(section.arms)
    if len(budgets) < 2:
        return None
    columns = [Column(str(budget), bytes_text(float(budget)), "percent") for budget in budgets]
    rows = tuple((arm.label, *(_within(arm, b) for b in budgets)) for arm in section.arms)
    note = (
        "Bytes of both directions and all clients; the accuracy after the last whole round within "
        "them, mean over seeds. A dash: not one round for some seed."
    )
    title, head = "Accuracy within a budget of bytes", (Column("arm", "Arm"), *columns)
    return Table(f"{section.slug}-within", title, head, rows, notes=(note,))


def _telling(arms: Sequence[Arm]) -> list[int]:
    """Returns the budgets from the first that pays for a round to the first that pays for all."""
    sent = [run.bytes_so_far() for arm in arms for run in arm.runs]
    sent = [bytes_ for bytes_ in sent if len(bytes_)]
    if not sent:
        return []
    least, most = min(b[0] for b in sent), max(b[-1] for b in sent)
    paying = [budget for budget in BUDGETS if budget >= least]
    return [b for i, b in enumerate(paying) if i == 0 or paying[i - 1] < most]


def _within(arm: Arm, budget: int) -> Cell:
    found = [x for run in arm.runs if (x := _reached(run, budget)) is not None]
    return mean_interval(found) if len(found) == arm.seeds else None


def _reached(run: Run, budget: int) -> float | None:
    rounds = int(np.searchsorted(run.bytes_so_far(), budget, side="right"))
    return float(run.curve("accuracy")[rounds - 1]) if rounds else None
