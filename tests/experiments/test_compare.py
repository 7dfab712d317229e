"""A comparison that is told to end takes its workers with it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PATIENCE = 180.0  # seconds; other tests may hold every core
AT_ONCE = 3.0  # seconds, less than what a run takes to end by itself


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
    "how", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
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
        assert process.wait(PATIENCE) == 130
        assert until(lambda: not any(is_running(worker) for worker in workers), AT_ONCE)
    finally:
        if process.poll() is None:
            for left in (*children_of(process.pid), process.pid):
                os.kill(left, signal.SIGKILL)
    assert "the same command goes on from here" in process.communicate()[1]
