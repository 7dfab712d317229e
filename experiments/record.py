"""A run's folder: configuration, checkpoint, record. Nothing half-written stays behind."""

import errno
import fcntl
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self, final

import torch
import yaml
from safetensors.torch import save_file

from distill.images import LabelledImages
from distill.synthetic import SyntheticSet
from experiments.errors import CommandError
from experiments.scenarios.base import Progress

SCHEMA = 1
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
SPENT = "spent"  # seconds of a run until its checkpoint
PACKAGES = ("fedcl", "torch", "numpy", "scikit-learn", "flwr", "avalanche-lib", "hydra-core")


@final
@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; see DESIGN.md section 6 for what lies in it.

    Attributes:
        path: Where it is.
        shown: Shows where the run stands; None: nobody looks.
        began: When the run began on the clock of ``time.perf_counter``, the time between its
            processes left out; None: not timed.
    """

    path: Path
    shown: Callable[[Progress], None] | None = None
    began: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, in all its processes; 0 where it is not timed."""
        return 0.0 if self.began is None else time.perf_counter() - self.began

    def completed(self) -> bool:
        """Whether this run has a record that says completed; one that can't be read doesn't."""
        return self._record().get("status") == "completed"

    def other_code(self) -> str | None:
        """Returns the commit of the code that left the record, if it may not be this one."""
        commit = self._record().get("git")
        return None if commit == git_commit() and not str(commit).endswith("+") else commit

    def _record(self) -> dict[str, Any]:
        try:
            record = json.loads((self.path / "record.json").read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Makes the folder and keeps other processes from running the same for the while.

        A file system without locks keeps nobody out.

        Raises:
            CommandError: If it can't be made, or another process has it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"output must be a folder that can be made: {error}") from error
        folder = os.open(self.path, os.O_RDONLY)
        try:
            self._lock(folder)
            yield
        finally:
            os.close(folder)

    def _lock(self, folder: int) -> None:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise CommandError(f"{self.path} is being run by another process: wait") from error

    def begin(self, config: Mapping[str, Any]) -> None:
        """Makes the folder, writes ``config.yaml`` and removes an older record.

        Raises:
            OSError: If the folder cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        (self.path / "record.json").unlink(missing_ok=True)
        write_text(self.path / "config.yaml", yaml.safe_dump(dict(config), sort_keys=True))

    def load_checkpoint(self) -> Mapping[str, Any] | None:
        """Returns what was saved last, on the CPU, or None at a fresh start.

        Raises:
            ValueError: If it can't be read.
        """
        file = self.path / "checkpoint" / "state.pt"
        if not file.exists():
            return None
        try:
            state: Mapping[str, Any] = torch.load(file, "cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{file} must be a checkpoint, and can't be read; remove it, and the run begins "
                "anew"
            ) from error
        return state

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, atomically."""
        folder = self.path / "checkpoint"
        folder.mkdir(exist_ok=True)
        part = folder / "state.part"
        try:
            with part.open("wb") as file:
                torch.save({**state, SPENT: self.seconds}, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(folder / "state.pt")
        finally:
            part.unlink(missing_ok=True)

    def timed(self) -> Self:
        """Returns this folder for a process that begins, or goes on, now."""
        state = self.load_checkpoint() or {}
        return replace(self, began=time.perf_counter() - state.get(SPENT, 0.0))

    def drop_checkpoint(self) -> None:
        """Removes the checkpoint of a run that needs none any more."""
        shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces a file of one JSON object a line, atomically."""
        write_text(self.path / name, "".join(json.dumps(dict(row)) + "\n" for row in rows))

    def note(self, progress: Progress) -> None:
        """Shows where the run stands."""
        if self.shown is not None:
            self.shown(progress)

    def write_images(self, synthetic: SyntheticSet | None, real: LabelledImages | None) -> None:
        """Writes ``synthetic.safetensors`` and, to show beside it, ``real.safetensors``."""
        if synthetic is not None:
            synthetic.save(self.path / "synthetic.safetensors", "float32")
        if real is not None:
            _write_stored(real, self.path / "real.safetensors")

    def write_memories(self, memories: Mapping[int, LabelledImages]) -> None:
        """Writes ``memories/<experience>.safetensors``, what a memory held after each."""
        for experience, images in memories.items():
            (self.path / "memories").mkdir(exist_ok=True)
            _write_stored(images, self.path / "memories" / f"{experience}.safetensors")

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes ``record.json``, atomically and last."""
        text = json.dumps({"schema": SCHEMA, **record}, indent=1, allow_nan=False)
        write_text(self.path / "record.json", text)


def _write_stored(data: LabelledImages, file: Path) -> None:
    tensors = {"images": data.images, "labels": data.labels}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, file)


def write_text(path: Path, text: str) -> None:
    """Writes a file as a whole or not at all: to a part, flushed to disk, then renamed."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of what decides the numbers."""
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


@cache
def git_commit() -> str | None:
    """Returns the commit of the checkout this code runs from, ``+`` if changed, else None."""
    here = Path(__file__).parents[1]
    if not (here / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def machine(device: str = "cpu") -> str:
    """Returns cores, processor, memory and, where it computes, the accelerator in a few words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    accelerator = f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
    return f"{os.cpu_count()} x {_processor()}, {memory:.0f} GiB{accelerator}"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return os.uname().machine
