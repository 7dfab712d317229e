"""Processes that a run starts, and ends by their ids whatever becomes of the run.

A process is one of ours if its environment holds our private ``FLWR_HOME``: that holds for
what they start in turn, even where its parent is gone by then.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, final

import psutil

logger = logging.getLogger(__name__)

HOME = "FLWR_HOME"
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # else uv installs anew in every run
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
ANSWER_SECONDS = 120.0
GRACE = 5.0  # seconds between asking processes to end and ending them


class FlowerRunError(RuntimeError):
    """A run on Flower's own runtimes that did not complete."""


@final
@dataclass
class Processes:
    """Flower's programs, started with a home of their own and logs in one folder.

    Attributes:
        folder: Where Flower's home and the logs lie.
        started: Each process with its name.
    """

    folder: Path
    started: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Flower's home, private to this run."""
        return self.folder / "home"

    def __enter__(self) -> Self:
        self.end()  # what an earlier command of this run left, which was killed
        self.home.mkdir(parents=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def environment(self) -> Mapping[str, str]:
        """Returns the environment of every program here."""
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**os.environ, **QUIET, HOME: str(self.home), "PATH": programs}

    def start(self, name: str, command: Sequence[str]) -> None:
        """Starts a program in the background; its words go to ``<name>.log``."""
        with self.log(name).open("wb") as file:
            process = subprocess.Popen(
                [program(command[0]), *command[1:]],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the command, which then ends them
            )
        self.started.append((name, process))

    def call(self, command: Sequence[str]) -> str:
        """Runs a program to its end and returns what it printed, whatever its status.

        Raises:
            FlowerRunError: If it takes too long.
        """
        try:
            done = subprocess.run(
                [program(command[0]), *command[1:]],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
                timeout=ANSWER_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            name = " ".join(command[:2])
            raise FlowerRunError(
                f"{name} must answer within {ANSWER_SECONDS:.0f} s, got silence"
            ) from error
        return done.stdout

    def log(self, name: str) -> Path:
        """Returns the file that a program's words go to."""
        return self.folder / f"{name}.log"

    def check(self) -> None:
        """Refuses to go on without one of the programs.

        Raises:
            FlowerRunError: If one has ended.
        """
        for name, process in self.started:
            status = process.poll()
            if status is not None:
                raise FlowerRunError(
                    f"{name} must live as long as the run, got its end with status {status}; "
                    f"see {self.log(name)}"
                )

    def wait_for(self, port: int, seconds: float) -> None:
        """Waits until a program listens on a port of this machine.

        Raises:
            FlowerRunError: If none does in time, or one of them has ended.
        """
        end = time.perf_counter() + seconds
        while not listens("127.0.0.1", port):
            self.check()
            if time.perf_counter() > end:
                name = self.started[-1][0]
                raise FlowerRunError(
                    f"{name} must listen on port {port} within {seconds:.0f} s, got silence; "
                    f"see {self.log(name)}"
                )
            time.sleep(0.1)

    def end(self) -> None:
        """Asks the programs to end, the last first, and ends what is left of them."""
        for _, process in reversed(self.started):
            process.terminate()
        waiting = time.perf_counter() + GRACE
        while (left := self.alive()) and time.perf_counter() < waiting:
            time.sleep(0.1)
        for process in left:
            logger.debug("process %d is ended", process.pid)
            process.kill()
        psutil.wait_procs(left, GRACE)
        for _, process in self.started:
            process.wait()

    def alive(self) -> list[psutil.Process]:
        """Returns the processes of this run that have not ended, whoever started them."""
        for _, process in self.started:
            process.poll()  # an ended child stays in the list of processes until it is asked
        return [p for p in psutil.process_iter() if _home_of(p) == str(self.home)]


def program(name: str) -> str:
    """Returns the path of a program that is installed beside this interpreter."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else name


def free_port() -> int:
    """Returns a port of this machine that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def _home_of(process: psutil.Process) -> str | None:
    try:
        home: str | None = process.environ().get(HOME)
    except (psutil.Error, OSError):  # another user's, or one that has just ended
        return None
    return home
