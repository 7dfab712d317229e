"""What a report says in words: what was compared on what, what came out, what it ran with."""

from collections.abc import Iterable, Sequence

from experiments.reporting.arms import Arm, shared_tags
from experiments.reporting.numbers import bytes_text
from experiments.reporting.runs import SCENARIOS, Run
from experiments.reporting.sections import HEADLINES, Section
from experiments.reporting.summaries import not_shown
from experiments.reporting.tables import cell_text

MAX_TOLD = 4


def introduction(runs: Sequence[Run], begun: int = 0) -> str:
    """Returns the paragraph that says what was compared, on what, with what.

    Args:
        runs: All that have a record.
        begun: How many others began, and were stopped or go on.
    """
    failed = sum(not run.completed for run in runs)
    seeds = sorted({run.seed for run in runs})
    days = sorted({run.text("started")[:10] for run in runs})
    what = _join(SCENARIOS[run.scenario].lower() for run in runs).capitalize()
    data = _join(run.dataset for run in runs)
    done = _count(len(runs) - failed, "completed run")
    but = f" and {failed} that failed" if failed else ""
    others = f" Begun and not finished: {_count(begun, 'run')}." if begun else ""
    numbers = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    machine = _join(run.text("machine") for run in runs)
    devices = _join(run.text("device") for run in runs)
    threads = _join(_count(int(run.record["threads"]), "thread") for run in runs)
    when = " to ".join(dict.fromkeys([days[0], days[-1]]))
    return (
        f"{what} on {data}: {done}{but}, {numbers}.{others} "
        f"Run on {machine} ({devices}, {threads}), {when}, with {_versions(runs)}."
    )


def outcome(run: Run) -> str:
    """Returns what one run came to: its accuracy and, where it sent something, the bytes."""
    key = HEADLINES[run.scenario]
    accuracy, sent = run.number(key), run.number("bytes_total")
    said = f"{key.replace('_', ' ')} {cell_text(accuracy, 'percent')} %"
    return f"{said}, {bytes_text(sent)} sent" if sent else said


def finding(section: Section) -> str:
    """Returns the outcome in a sentence: the best arm of each budget, or by rounds and at once."""
    able = [arm for arm in section.arms if not arm.bound and arm.interval(section.headline)]
    if not able:
        return "No run of this section completed with an accuracy."
    federated = section.scenario == "federated"
    best: dict[object, Arm] = {}
    for arm in able:
        best.setdefault(arm.iterative if federated else section.budget(arm), arm)
    shown = sorted(best.values(), key=_size) if len(best) <= MAX_TOLD else able[:1]
    kind = "by rounds and in one shot" if federated else "at each budget"
    where = f" {kind}" if len(shown) > 1 else " of all" if len(best) > 1 else ""
    told = "; ".join(_told(section, arm) for arm in shown)
    tags = ", ".join(shared_tags(section.arms))
    arms = _count(len(section.arms), "arm") + (f", all with {tags}" if tags else "")
    return f"{arms}. The best{where}: {told}."


def _size(arm: Arm) -> tuple[bool, float]:
    return not arm.iterative, arm.mean("storage_bytes") or arm.mean("buffer_bytes") or 0.0


def _told(section: Section, arm: Arm) -> str:
    accuracy, sent = arm.interval(section.headline), arm.mean("bytes_total")
    cost = f" with {bytes_text(sent)} sent" if sent else ""
    but = f" ({arm.failed} of its {arm.seeds} seeds failed)" if arm.failed else ""
    return f"{arm.label}, {cell_text(accuracy, 'percent')} %{cost}{but}"


def facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Returns what the runs ran on and with, as terms and descriptions."""
    commits = _join(run.text("git") for run in runs if run.text("git"))
    return [
        ("Machine", _join(run.text("machine") for run in runs)),
        ("Versions", _versions(runs)),
        ("Source", f"git {commits}" if commits else "no commit recorded"),
        ("Recorded and not shown", ", ".join(not_shown(runs)) or "nothing"),
    ]


def _versions(runs: Sequence[Run]) -> str:
    """The versions of all runs, several where runs differ."""
    packages = dict.fromkeys(package for run in runs for package in run.record["versions"])
    named = [
        f"{package} {_join(run.record['versions'].get(package, 'unrecorded') for run in runs)}"
        for package in packages
    ]
    return ", ".join(named)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _join(words: Iterable[str]) -> str:
    """Returns each word once, as an enumeration: "a, b and c"."""
    *first, last = [*dict.fromkeys(words)] or [""]
    return f"{', '.join(first)} and {last}" if first else last
