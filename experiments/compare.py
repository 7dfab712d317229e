"""A comparison: arms x seeds, side by side in worker processes, then one report.

``configs/comparison/NAME.yaml`` holds a title, the seeds, and the arms: each is a command
line without ``fedcl``, in which comma-separated values stand for one arm each; ``shared``
are words that every arm takes before those of the command; ``published`` are values that others
printed, each with the words of the arms that measure it. A worker has one thread, so that the
numbers don't depend on how many work at once.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

import yaml
from tqdm import tqdm

from experiments.build import NOT_IN_HASH, plan
from experiments.cli import KINDS
from experiments.compose import swept
from experiments.errors import CommandError, RunFailedError, interrupted
from experiments.listing import config_folder, known
from experiments.report import check_out, write_report
from experiments.reporting.published import Published

Failures = Mapping[str, Sequence[str]]  # commands by the reason that ended them
OWN_KEYS = ("seeds", "jobs", "report")
KILLED = "a worker was killed, perhaps for memory; the same command goes on, with jobs=1 in less"


@final
@dataclass(frozen=True)
class Arm:
    """One run of a comparison: a verb and its words, the seed among them."""

    verb: str
    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        """The scenario."""
        return KINDS.get(self.verb, self.verb)

    @property
    def command(self) -> str:
        """The command that makes this run alone."""
        return " ".join(["fedcl", self.verb, *self.words])


@final
@dataclass(frozen=True)
class Comparison:
    """A comparison as its words describe it.

    Attributes:
        name: Stem of its YAML.
        title: Of the report.
        arms: All of the first seed, then all of the next, so that any cut is balanced.
        seeds: How many.
        jobs: Workers.
        report: Where the report goes.
        published: What others printed of such runs; nothing where words change them.
    """

    name: str
    title: str
    arms: Sequence[Arm]
    seeds: int
    jobs: int
    report: Path
    published: Sequence[Published] = ()

    @classmethod
    def of(cls, words: Sequence[str]) -> Self:
        """Returns the comparison of a command's words, each arm composed once.

        Raises:
            CommandError: If the comparison or any arm is wrong.
        """
        if not words or words[0] not in known("comparison"):
            name = repr(words[0]) if words else "nothing"
            names = ", ".join(known("comparison"))
            raise CommandError(f"unknown comparison {name}; known: {names}")
        own = {
            key: value
            for key, _, value in (word.partition("=") for word in words[1:])
            if key in OWN_KEYS
        }
        content = yaml.safe_load((config_folder() / "comparison" / f"{words[0]}.yaml").read_text())
        seeds = _numbers("seeds", own["seeds"]) if "seeds" in own else list(content["seeds"])
        shared = [word for word in words[1:] if word.split("=")[0] not in OWN_KEYS]
        for word in shared:
            if word.split("=")[0] in ("seed", "threads"):
                raise CommandError(
                    f"{word} must be left out: a comparison has seeds=0,1,2 and runs of one thread"
                )
        jobs = own.get("jobs", str(os.cpu_count() or 1))
        if not jobs.isdecimal() or int(jobs) < 1:
            raise CommandError(f"jobs must be a whole number >= 1, got {jobs!r}")
        if own.get("report") == "":
            raise CommandError("report must be a folder, as report=FOLDER, got nothing")
        unchanged = all(word.split("=")[0] in NOT_IN_HASH for word in shared)
        published = content.get("published", []) if unchanged else []
        return cls(
            name=words[0],
            title=str(content["title"]),
            arms=_arms(content, seeds, [*content.get("shared", "").split(), *shared]),
            seeds=len(seeds),
            jobs=int(jobs),
            report=Path(own.get("report", f"reports/{words[0]}")),
            published=[Published.of(entry) for entry in published],
        )


def compare(words: Sequence[str]) -> Path:
    """Runs what isn't finished of a comparison and returns the path of its report.

    Args:
        words: The name; then ``seeds=``, ``jobs=`` and ``report=``, and overrides that every
            arm takes.

    Raises:
        CommandError: If the comparison or any arm is wrong, before anything runs.
        RunFailedError: After the report is written, if any run failed.
    """
    comparison = Comparison.of(words)
    page = report = comparison.report
    check_out(report)
    folders, failures = _run_all(comparison.arms, comparison.jobs)
    if folders:
        page = write_report(folders, report, comparison.title, comparison.published)
    if failures:
        failed = sum(map(len, failures.values()))
        raise RunFailedError(f"{failed} of {len(comparison.arms)}: {_told(failures)}")
    return page


def _numbers(name: str, text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise CommandError(f"{name} must be whole numbers, as {name}=0,1,2, got {text!r}")
    return list(dict.fromkeys(map(int, parts)))


def _arms(content: Mapping[str, Any], seeds: Sequence[int], shared: Sequence[str]) -> list[Arm]:
    """Returns the runs, those once that are the same however they are written."""
    arms = dict[tuple[str, str], Arm]()
    for line in content["arms"]:
        verb, *words = line.split()
        for combination in swept([*words, *shared, "threads=1"]):
            arm = Arm(verb, (*combination, f"seed={seeds[0]}"))
            try:
                planned = plan(arm.kind, arm.words)
            except CommandError as error:
                raise CommandError(f"arm {line!r}: {error}") from error
            arms.setdefault((planned.name, planned.config_hash), arm)
    return [
        Arm(arm.verb, (*arm.words[:-1], f"seed={seed}")) for seed in seeds for arm in arms.values()
    ]


def _told(failures: Failures) -> str:
    """Returns each reason once, behind the first command that it ended."""
    return "; ".join(
        f"{commands[0]}{f' and {len(commands) - 1} more' if len(commands) > 1 else ''}: {why}"
        for why, commands in failures.items()
    )


def _run_all(arms: Sequence[Arm], jobs: int) -> tuple[list[Path], Failures]:
    """Returns the folders of the runs that have a record, and why others failed."""
    folders: list[Path] = []
    failures: dict[str, list[str]] = {}
    context = multiprocessing.get_context("spawn")
    signal.signal(signal.SIGTERM, interrupted)
    with ProcessPoolExecutor(jobs, context, _end_with_parent) as pool:
        waiting: dict[Future[tuple[Path, str]], Arm] = {
            pool.submit(_run_one, arm): arm for arm in arms
        }
        try:
            for done in tqdm(as_completed(waiting), "runs", len(arms), disable=None):
                try:
                    folder, reason = done.result()
                except BrokenProcessPool:
                    folder, reason = None, KILLED
                if reason:
                    failures.setdefault(reason, []).append(waiting[done].command)
                if folder is not None and (folder / "record.json").exists():
                    folders.append(folder)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.kill()  # its run goes on from its checkpoint
            raise
    return sorted(folders), failures


def _end_with_parent() -> None:
    """Ends this worker when the comparison was killed; its run goes on from its checkpoint."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run_one(arm: Arm) -> tuple[Path, str]:
    """Runs an arm; returns its folder and why it failed, if it did."""
    from experiments.cli import quiet
    from experiments.run import folder_of, run

    quiet()
    try:
        return run(arm.kind, list(arm.words), arm.command, bar=False), ""
    except (CommandError, RunFailedError, OSError) as error:
        return folder_of(plan(arm.kind, arm.words)).path, str(error)
