"""One run: threads, the bar, the record."""

import logging
import math
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from distill.allocator import keep_freed_memory
from distill.checks import one_of, whole
from experiments.backends.base import Composition, Federation
from experiments.backends.local import Local
from experiments.build import Plan, plan
from experiments.compose import swept
from experiments.errors import CommandError, RunFailedError, interrupted
from experiments.forecast import Forecast
from experiments.peak import forget_peak, peak_bytes
from experiments.record import RunFolder, git_commit, machine, versions
from experiments.scenarios.base import Outcome, Progress, Run

logger = logging.getLogger(__name__)

DEVICES = ("auto", "cpu", "cuda")


def run(kind: str, overrides: list[str], command: str, bar: bool = True) -> Path:
    """Runs what the words describe, or goes on with it, and returns its folder.

    A run that completed before is not repeated.

    Args:
        kind: The scenario.
        overrides: Hydra's words.
        command: The whole command, for the record.
        bar: Whether to show a bar, where there is a terminal.

    Raises:
        CommandError: If the words are wrong or don't fit the data; no folder is left.
        RunFailedError: If the run failed; the record says so.
    """
    return _run(plan(kind, overrides), command, bar)


def _run(planned: Plan, command: str, bar: bool = True) -> Path:
    folder = folder_of(planned)
    if folder.completed():
        logger.info("%s has completed before%s", folder.path, _by_other_code(folder))
        return folder.path
    device = set_up(planned)
    forget_peak()  # of runs before this one
    try:
        ready = _placed(planned, planned.scenario.prepare(device), folder)
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error
    with folder.owned():
        if not folder.completed():  # by another process meanwhile
            _recorded(planned, ready, folder, (command, device, bar))
    return folder.path


def _by_other_code(folder: RunFolder) -> str:
    commit = folder.other_code()
    return f" by the code of {commit}; remove it to run it by that of today" if commit else ""


def folder_of(planned: Plan) -> RunFolder:
    """Returns the folder of a run, whether or not it is there."""
    output = Path(planned.settings["output"])
    return RunFolder(output / planned.kind / planned.name / planned.config_hash)


def forecast(planned: Plan) -> Forecast:
    """Returns what a run will send, hold and take; no folder is left.

    Raises:
        CommandError: If the words don't fit the data.
    """
    device = set_up(planned)
    forget_peak()
    try:
        return planned.scenario.prepare(device).forecast()
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error


def sweep(kind: str, verb: str, overrides: list[str]) -> Iterator[Path]:
    """Runs every combination of comma-separated values; yields each run's folder.

    Raises:
        CommandError: If any combination is wrong, before the first one runs.
        RunFailedError: After the last one, if any failed or didn't fit its data.
    """
    combinations = swept(overrides)
    plans = [plan(kind, words) for words in combinations]
    failures = []
    for words, planned in zip(combinations, plans, strict=True):
        try:
            yield _run(planned, " ".join(["fedcl", verb, *words]))
        except (CommandError, RunFailedError) as error:
            failures.append(f"{' '.join(words)}: {error}")
    if failures:
        raise RunFailedError(f"{len(failures)} of {len(combinations)}: {'; '.join(failures)}")


def _placed(planned: Plan, ready: Run, folder: RunFolder) -> Run:
    """Returns a federation with its clients where they are to work, and other runs as they are."""
    if not isinstance(ready, Federation):
        return ready
    # Nodes that sum in another order, as with other threads, would not give the same numbers.
    words = [*planned.words, f"threads={torch.get_num_threads()}"]
    composition = Composition.of(planned.kind, words)
    return ready.backend.place(ready, composition, folder.path / "flower")


def set_up(planned: Plan) -> str:
    """Sets threads, the allocator and the accelerator's arithmetic; returns the device."""
    settings = planned.settings
    try:
        one_of("device", settings["device"], DEVICES)
        whole("seed", settings["seed"], 0)
        if settings["threads"] is not None:
            whole("threads", settings["threads"], 1)
            torch.set_num_threads(settings["threads"])
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from error
    keep_freed_memory()
    backend = getattr(planned.scenario, "backend", Local())  # without clients, all is here
    device = _device(settings["device"], isinstance(backend, Local))
    if device == "cuda":
        _compute_alike()
    return device


def _device(wanted: str, here: bool) -> str:
    """Returns where a run computes.

    Args:
        wanted: One of ``DEVICES``.
        here: Whether all of it is in this process; other nodes compute on the CPU.
    """
    cuda = torch.cuda.is_available()
    if wanted == "cuda" and not here:
        raise CommandError("device must be cpu where clients work in other processes, got cuda")
    if wanted == "cuda" and not cuda:
        raise CommandError("device must be one that torch finds here, got cuda; take cpu")
    if wanted == "auto":
        return "cuda" if cuda and here else "cpu"
    return wanted


def _compute_alike() -> None:
    """Asks cuDNN for whole float32 products, and for kernels that give the same each time."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True


def _recorded(planned: Plan, ready: Run, folder: RunFolder, how: tuple[str, str, bool]) -> None:
    command, device, bar = how
    started = datetime.now(UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {
        "scenario": planned.kind,
        "name": planned.name,
        "command": command,
        "seed": planned.settings["seed"],
        "config": dict(planned.config),
        "config_hash": planned.config_hash,
        "versions": versions(),
        "git": git_commit(),
        "machine": machine(device),
        "device": device,
        "threads": torch.get_num_threads(),
        "started": started,
    }
    try:
        folder.begin(planned.config)
        folder = folder.timed()
        outcome = _driven(ready, folder, bar)
        folder.write_images(outcome.synthetic, outcome.real)
        folder.write_memories(outcome.memories)
        _draw(folder, outcome)
        result = {"status": "completed", "metrics": dict(outcome.metrics), "error": None}
        _write(folder, record, {**result, "history": list(outcome.history)})
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        logger.debug("the run failed", exc_info=True)
        _write(folder, record, {"status": "failed", "metrics": {}, "error": reason})
        raise RunFailedError(reason) from error
    folder.drop_checkpoint()


def _draw(folder: RunFolder, outcome: Outcome) -> None:
    from experiments.pictures import write_pictures  # Matplotlib, a second of import

    write_pictures(folder.path, outcome)


def _write(folder: RunFolder, record: dict[str, Any], result: dict[str, Any]) -> None:
    cost = {"seconds": folder.seconds, "peak_rss_bytes": peak_bytes()}
    folder.write_record({**record, **cost, "history": [], **result})


def _driven(ready: Run, folder: RunFolder, bar: bool) -> Outcome:
    """Takes all steps under one bar, which shows on a terminal only."""
    signal.signal(signal.SIGTERM, interrupted)
    with tqdm(disable=None if bar else True, leave=False) as shown:

        def show(progress: Progress) -> None:
            if shown.total is None:  # what an earlier process did says nothing of the pace
                shown.initial = math.ceil(progress.done) - 1
            shown.total, shown.n = progress.total, round(progress.done, 2)
            shown.set_description(progress.text, refresh=False)
            shown.refresh()

        with closing(ready.steps(replace(folder, shown=show))) as steps:
            while True:
                try:
                    show(next(steps))
                except StopIteration as end:
                    outcome: Outcome = end.value
                    return outcome
