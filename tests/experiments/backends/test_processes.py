"""What a run starts ends with it, whoever started it and whoever waits for it."""

import shutil
import sys
import time
from pathlib import Path

import psutil
import pytest

from experiments.backends.processes import FlowerRunError, Processes, free_port, listens

SLEEPS = "import time; time.sleep(600)"
ORPHANS = (  # starts a process in a session of its own, and leaves it without a parent
    "import subprocess, sys; "
    f"subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True)"
)
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"


def wait_until(happened, seconds: float = 30.0) -> None:
    end = time.perf_counter() + seconds
    while not happened():
        assert time.perf_counter() < end
        time.sleep(0.05)


def running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def failing_run(folder: Path, pids: list[int]) -> None:
    with Processes(folder) as processes:
        processes.start("sleeper", [sys.executable, "-c", SLEEPS])
        pids.append(processes.started[0][1].pid)
        assert running(pids[0])
        raise ValueError("the run")


def test_a_process_ends_though_the_run_fails(tmp_path):
    pids: list[int] = []
    with pytest.raises(ValueError, match="the run"):
        failing_run(tmp_path / "run", pids)
    assert not running(pids[0])


def test_what_a_killed_command_left_ends_when_the_run_goes_on(tmp_path):
    left = Processes(tmp_path / "run").__enter__()  # and nobody leaves
    left.start("sleeper", [sys.executable, "-c", SLEEPS])
    pid = left.started[0][1].pid
    assert running(pid)
    shutil.rmtree(tmp_path / "run")
    with Processes(tmp_path / "run"):
        assert not running(pid)
    left.end()


def test_a_process_ends_whose_parent_has_gone(tmp_path):
    with Processes(tmp_path / "run") as processes:
        processes.start("parent", [sys.executable, "-c", ORPHANS])
        wait_until(lambda: processes.started[0][1].poll() is not None)
        (orphan,) = processes.alive()
        assert orphan.pid != processes.started[0][1].pid
    assert not running(orphan.pid)


def test_a_process_ends_that_does_not_want_to(tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.backends.processes.GRACE", 0.5)
    with Processes(tmp_path / "run") as processes:
        processes.start("deaf", [sys.executable, "-c", f"print('on', flush=True); {DEAF}"])
        wait_until(lambda: processes.log("deaf").read_text() == "on\n")
        pid = processes.started[0][1].pid
    assert not running(pid)


def test_processes_of_another_run_are_left_alone(tmp_path):
    with Processes(tmp_path / "one") as one:
        one.start("sleeper", [sys.executable, "-c", SLEEPS])
        with Processes(tmp_path / "other") as other:
            other.start("sleeper", [sys.executable, "-c", SLEEPS])
        assert [process.pid for process in one.alive()] == [one.started[0][1].pid]
        one.check()


def test_a_program_that_ends_early_is_named_with_its_log(tmp_path):
    with Processes(tmp_path / "run") as processes:
        processes.start("hasty", [sys.executable, "-c", "raise SystemExit(3)"])
        wait_until(lambda: processes.started[0][1].poll() is not None)
        with pytest.raises(FlowerRunError, match=r"hasty must live .* status 3; see .*hasty\.log"):
            processes.wait_for(free_port(), 30.0)


def test_a_program_that_does_not_listen_is_given_up(tmp_path):
    with Processes(tmp_path / "run") as processes:
        processes.start("sleeper", [sys.executable, "-c", SLEEPS])
        with pytest.raises(FlowerRunError, match=r"sleeper must listen on port .* within 0 s"):
            processes.wait_for(free_port(), 0.2)


def test_flower_calls_nobody_from_a_run_and_finds_its_home(tmp_path):
    program = "import os; print(*(os.environ[k] for k in ('FLWR_TELEMETRY_ENABLED', 'FLWR_HOME')))"
    with Processes(tmp_path / "run") as processes:
        printed = processes.call([sys.executable, "-c", program])
    assert printed == f"0 {tmp_path / 'run' / 'home'}\n"


def test_a_port_is_free_until_something_listens():
    assert not listens("127.0.0.1", free_port())
