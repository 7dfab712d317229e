"""Every arm of a section in one row: its accuracy, its cost, its seeds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from experiments.reporting.arms import FEW_SEEDS, Arm, paired
from experiments.reporting.intransigence import intransigence
from experiments.reporting.numbers import MINUS
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section
from experiments.reporting.tables import Cell, Column, Table
from experiments.reporting.trust import METRICS
from fedcl.statistics import Interval

_ARM = (Column("arm", "Arm"), Column("seeds", "Seeds", "count"))
_SENT = (
    Column("bytes_total", "Sent, both ways", "bytes"),
    Column("bytes_up", "Up", "bytes"),
    Column("bytes_down", "Down", "bytes"),
    Column("payload_bytes", "Of it payload", "bytes"),
    Column("bytes_per_client_mean", "A client, mean", "bytes"),
    Column("bytes_per_client_max", "A client, most", "bytes"),
)
_FORGETTING = (
    Column("average_accuracy", "Average accuracy", "percent", "higher"),
    Column("average_incremental_accuracy", "Incremental accuracy", "percent", "higher"),
    Column("average_forgetting", f"Forgetting, max {MINUS} last", "percent", "lower"),
    Column("backward_transfer", f"Backward transfer, last {MINUS} first", "points", "higher"),
    Column("forward_transfer", "Forward transfer", "points", "higher"),
    Column("learning_accuracy", "Learning accuracy", "percent", "higher"),
    Column("intransigence", "Intransigence", "points", "lower"),
)
_BUFFER = (
    Column("buffer_bytes", "Buffer", "bytes"),
    Column("buffer_images", "Buffer images", "count"),
    Column("kept_bytes", "Kept beside it", "bytes"),
)
_FAILURES = Column("failures", "Failures", "count")
_TIME = Column("seconds", "Time", "seconds")
_SIMULATED = Column("simulated_seconds", "Simulated time", "seconds")
_WORK = (
    Column("model_copies", "Networks kept", "count"),
    Column("samples", "Images passed", "count"),
    Column("train_seconds", "Training", "seconds"),
    Column("distill_seconds", "Distilling", "seconds"),
    Column("distill_ratio", "Distilling / training", "ratio"),
    Column("evaluate_seconds", "Evaluating", "seconds"),
)
_SUMMARIES: Mapping[str, tuple[Column, ...]] = {
    "distillation": (
        Column("accuracy", "Accuracy", "percent", "higher"),
        Column("accuracy_std", "Spread of networks", "percent"),
        Column("gain", "Gain over random", "points", "higher"),
        Column("random_accuracy", "Random images", "percent"),
        Column("whole_accuracy", "Whole data", "percent"),
        Column("images", "Images", "count"),
        Column("storage_bytes", "Stored", "bytes"),
        Column("float16_accuracy", "Accuracy from float16", "percent"),
        Column("storage_bytes_uint8", "As uint8", "bytes"),
        Column("uint8_accuracy", "Accuracy from uint8", "percent"),
        Column("stored_share", "Share of data", "share"),
        Column("origin", "Origin"),
        Column("distill_seconds", "Distilling", "seconds"),
        Column("evaluate_seconds", "Evaluating", "seconds"),
        Column("small_seconds_to_accuracy", "Training to its accuracy", "seconds"),
        Column("whole_seconds_to_accuracy", "On all images", "seconds"),
        Column("peak_rss_bytes", "Peak memory", "bytes"),
    ),
    "federated": (
        Column("accuracy", "Accuracy", "percent", "higher"),
        Column("mean_client_accuracy", "Mean of clients", "percent", "higher"),
        Column("worst_client_accuracy", "Worst client", "percent", "higher"),
        Column("personalised_accuracy", "Personalised", "percent", "higher"),
        Column("worst_personalised_accuracy", "Worst personalised", "percent", "higher"),
        *_SENT,
        Column("raw_ratio", "Sent / raw images", "ratio"),
        Column("origin", "Origin"),
        Column("rounds", "Rounds", "count"),
        _FAILURES,
        _SIMULATED,
        _TIME,
    ),
    "continual": (*_FORGETTING, *_BUFFER, _TIME),
    "federated_continual": (
        _FORGETTING[0],
        _FORGETTING[2],
        *_SENT,
        *_BUFFER,
        _FAILURES,
        _SIMULATED,
        _TIME,
    ),
}
ACROSS = "across."  # before a network's name
# Parts of the metrics above, and what a figure reads.
_READ_ELSEWHERE = {"accuracy_matrix", "class_counts", "data_bytes", "raw_bytes"}
_READ_ELSEWHERE |= {"heterogeneity", "quantity_skew", "feature_shift"}
_READ_ELSEWHERE |= {"client_accuracies", "personalised_accuracies"} | METRICS
_READ_ELSEWHERE |= {"buffer_allowed", "set_by"}
_NOTHING_AT_ZERO = {"kept_bytes"}


def summary(section: Section) -> Table:
    """Returns every arm of a section with its accuracy, its budgets and its seeds."""
    return _arm_table(section, "summary", "Summary", _SUMMARIES[section.scenario])


def costs(section: Section) -> Table | None:
    """Returns what every arm kept and did for its accuracy; None where no run recorded it."""
    if not any(arm.interval(column.key) for arm in section.arms for column in _WORK):
        return None
    accuracy = Column("average_accuracy", "Average accuracy", "percent")
    return _arm_table(section, "costs", "What it cost", [accuracy, *_BUFFER, *_WORK])


def transfer(section: Section) -> Table:
    """Returns what every arm forgot and carried over."""
    return _arm_table(section, "forgetting", "Forgetting and transfer", _FORGETTING)


def across(section: Section) -> Table | None:
    """Returns the accuracy of every network that an arm's set trained; None if just one did."""
    keys = sorted({key for arm in section.arms for key in arm.runs[0].metrics if _is_across(key)})
    if not keys:
        return None
    columns = [Column(key, key.removeprefix(ACROSS), "percent", "higher") for key in keys]
    own = Column("accuracy", "its own", "percent", "higher")
    return _arm_table(section, "across", "Across networks", [own, *columns])


def _is_across(key: str) -> bool:
    return key.startswith(ACROSS)


def not_shown(runs: Sequence[Run]) -> list[str]:
    """Returns the recorded metrics that no table or figure of this report reads."""
    read = {column.key for columns in (*_SUMMARIES.values(), _WORK) for column in columns}
    recorded = {key for run in runs for key in run.metrics if not _is_across(key)}
    return sorted(recorded - read - _READ_ELSEWHERE)


def _arm_table(section: Section, name: str, title: str, columns: Sequence[Column]) -> Table:
    """Returns one row for each arm; columns that no arm can fill are left out."""
    cells = {c: [_cell(section, arm, c) for arm in section.arms] for c in columns}
    filled = [c for c in columns if any(map(partial(_says, c), cells[c]))]
    rows = [
        (arm.label, float(len(arm.runs)), *(cells[column][i] for column in filled))
        for i, arm in enumerate(section.arms)
    ]
    table = Table(f"{section.slug}-{name}", title, (*_ARM, *filled), tuple(rows))
    best = _best(section, table)
    notes = (*_notes(section, bool(best)), *_partial(section, filled))
    return replace(table, best=best, notes=notes)


def _partial(section: Section, columns: Sequence[Column]) -> Iterable[str]:
    """Yields which cells are means of fewer seeds than their arm has."""
    found = [
        f"{column.title}, {arm.label}, {count} of {len(arm.runs)}"
        for column in columns
        for arm in section.arms
        if 0 < (count := len(arm.values(column.key))) < len(arm.runs)
    ]
    if found:
        yield f"Of fewer seeds, as the others have no such number: {'; '.join(found)}."


def _says(column: Column, cell: Cell) -> bool:
    nothing = isinstance(cell, Interval) and cell.mean == 0 and column.key in _NOTHING_AT_ZERO
    return cell is not None and not nothing


def _cell(section: Section, arm: Arm, column: Column) -> Cell:
    if column.form == "text":
        return arm.word(column.key)
    beside = _BESIDE.get(column.key)
    return arm.interval(column.key) or (beside(section, arm) if beside else None)


def _gain(section: Section, arm: Arm) -> Interval | None:
    """The gain over the arm of random images, where no run has it beside itself."""
    rival = section.random_rival(arm)
    return None if rival is None else paired("accuracy", arm, rival)


_BESIDE: Mapping[str, Callable[[Section, Arm], Interval | None]] = {
    "gain": _gain,
    "intransigence": intransigence,
}


def _best(section: Section, table: Table) -> frozenset[tuple[int, int]]:
    """The best cell of each contested column among each group of rivals."""
    row_of = {arm.label: row for row, arm in enumerate(section.arms)}
    return frozenset(
        (row, j)
        for j, column in enumerate(table.columns)
        if column.better
        for arms in section.rivals
        for row in _winners(table, [row_of[arm.label] for arm in arms], j)
    )


def _winners(table: Table, rows: Sequence[int], column: int) -> list[int]:
    sign = -1 if table.columns[column].better == "lower" else 1
    cells = {row: table.rows[row][column] for row in rows}
    scores = {row: sign * cell.mean for row, cell in cells.items() if isinstance(cell, Interval)}
    if len(set(scores.values())) < 2:
        return []
    return [row for row, score in scores.items() if score == max(scores.values())]


def _notes(section: Section, bold: bool) -> Iterable[str]:
    yield "Mean ± half width of the 95 % t-interval over seeds."
    if bold:
        equal = "conditions" if section.scenario == "federated" else "budget and conditions"
        among = f" among arms of equal {equal}" if len(section.rivals) > 1 else ""
        bounds = [arm.label for arm in section.arms if arm.bound]
        part = "is a bound and takes" if len(bounds) == 1 else "are bounds and take"
        aside = f"; {' and '.join(bounds)} {part} no part" if bounds else ""
        yield f"Bold: the best mean{among}{aside}."
    if bold and len({arm.mean("kept_bytes") or 0.0 for arm in section.arms}) > 1:
        yield "Budgets are those of buffers; what arms keep beside them differs, and isn't counted."
    failed = [f"{arm.failed} of {arm.seeds} of {arm.label}" for arm in section.arms if arm.failed]
    if failed:
        yield f"Seeds that failed, and are in no mean: {'; '.join(failed)}."
    few = [arm.label for arm in section.arms if len(arm.runs) < FEW_SEEDS]
    if few:
        which = "all arms" if len(few) == len(section.arms) else "; ".join(few)
        yield f"Fewer than three seeds, so take the numbers as single looks: {which}."
