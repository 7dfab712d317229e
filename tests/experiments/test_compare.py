"""A comparison runs each arm once, tells of those that fail, and takes its workers with it."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from experiments import compare as module
from experiments.compare import KILLED, Comparison, compare
from experiments.errors import CommandError, RunFailedError

PATIENCE = 180.0  # seconds; other tests may hold every core
AT_ONCE = 3.0  # seconds, less than what a run takes to end by itself


TOY = ["toy", "seeds=0", "jobs=1"]


def arms(words: str) -> list[str]:
    return [arm.command for arm in Comparison.of(words.split()).arms]


def test_runs_that_are_the_same_are_made_once():
    # FedAvg at 0.01 and 0.04, and dynafed in two arms, of which an override makes two or one.
    assert len(arms("federated_severe seeds=0")) == 4
    assert len(arms("federated_severe seeds=0 partition.alpha=0.01")) == 3
    assert len(arms("federated_severe seeds=0,0,3 partition.alpha=0.01")) == 6
    assert arms("federated_severe seeds=0,3")[4:] == [
        command.replace("seed=0", "seed=3") for command in arms("federated_severe seeds=0")
    ]


def test_published_values_are_of_the_comparisons_own_words():
    def published(*words):
        return len(Comparison.of(["continual_mnist_reference", "seeds=0", *words]).published)

    assert published() == published("data_root=elsewhere") == 7
    assert published("dataset=digits") == published("training.epochs=1") == 0


@pytest.mark.parametrize("word", ["seed=5", "threads=4"])
def test_words_that_a_comparison_sets_are_refused(word):
    with pytest.raises(CommandError, match=f"^{word} must be left out: a comparison has seeds="):
        Comparison.of(["toy", word])


@pytest.fixture
def compared(tmp_path, monkeypatch):
    """Compares in threads, each arm run as a function does; returns what was said, the folders."""

    def compared(run_one) -> tuple[str, list[Path]]:
        told = list[Path]()
        monkeypatch.setattr(
            module, "ProcessPoolExecutor", lambda jobs, *_: ThreadPoolExecutor(jobs)
        )
        monkeypatch.setattr(module, "_run_one", run_one)
        monkeypatch.setattr(module, "write_report", lambda folders, *_: told.extend(folders))
        with pytest.raises(RunFailedError) as refused:
            compare([*TOY, f"report={tmp_path}/report"])
        return str(refused.value), told

    return compared


def test_a_failed_run_is_in_the_report_and_one_without_a_record_is_not(compared, tmp_path):
    def failing(arm):
        folder = tmp_path / arm.verb
        if arm.verb == "distill":
            folder.mkdir(exist_ok=True)
            (folder / "record.json").touch()
        return folder, f"no {arm.verb}"

    said, told = compared(failing)
    assert set(told) == {tmp_path / "distill"}
    reasons = {part.rpartition(": ")[2] for part in said.split("; ")}
    assert reasons >= {"no distill", "no continual"}


def test_a_reason_that_ended_several_runs_is_told_once(compared, tmp_path):
    (tmp_path / "record.json").touch()
    said, _ = compared(lambda arm: (tmp_path, "no such disk" if arm.verb == "continual" else ""))
    count = sum(arm.verb == "continual" for arm in Comparison.of(["toy"]).arms)
    assert count > 1
    assert f" and {count - 1} more: no such disk" in said
    assert said.startswith(f"{count} of ")
    assert said.count("no such disk") == 1


def test_a_killed_worker_is_a_failure_and_there_is_a_report_of_the_rest(compared, tmp_path):
    (tmp_path / "record.json").touch()

    def killed(arm):
        if arm.verb == "distill":
            return tmp_path, ""
        raise BrokenProcessPool

    said, told = compared(killed)
    assert set(told) == {tmp_path}
    assert said.endswith(f": {KILLED}")
    assert said.count("killed") == 1


def children_of(process: int) -> list[int]:
    text = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in text.split()]


def is_running(process: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def until(condition, patience=PATIENCE) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
@pytest.mark.parametrize(
    "how", [signal.SIGTERM, signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_an_ended_comparison_leaves_no_worker(tmp_path, how):
    words = ["-m", "experiments", "compare", "toy", f"output={tmp_path}/runs", "jobs=1"]
    words.append(f"report={tmp_path}/report")
    process = subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True)
    try:
        assert until(lambda: list(tmp_path.rglob("config.yaml")))  # a worker is at work
        workers = children_of(process.pid)
        assert workers
        os.kill(process.pid, how)
        assert process.wait(PATIENCE) == (-9 if how == signal.SIGKILL else 130)
        assert until(lambda: not any(is_running(worker) for worker in workers), AT_ONCE)
    finally:
        if process.poll() is None:
            for left in (*children_of(process.pid), process.pid):
                os.kill(left, signal.SIGKILL)
    told = "the same command goes on from here" in process.communicate()[1]
    assert told is (how != signal.SIGKILL)
