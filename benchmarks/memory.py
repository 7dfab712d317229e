"""The peak memory of one call, in a process of its own."""

import ctypes
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, final


@final
@dataclass(frozen=True)
class Peak:
    """The largest resident size of a process, bytes.

    Attributes:
        before: When all was ready for the call: libraries, data.
        after: After the call.
    """

    before: int
    after: int

    def row(self, name: str) -> str:
        """Returns both on one line."""
        rise = f"{(self.after - self.before) / 1e6:.0f} MB above what was there before the call"
        return f"{name:<10}peak {self.after / 1e6:.0f} MB, {rise}"


def peak(prepare: Callable[..., Callable[[], object]], *given: Any) -> Peak:
    """Returns the peak memory of one call in a new process.

    Args:
        prepare: A function of a module, which makes the call from ``given``.
        given: Its arguments, which travel to the process.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_peak, prepare, *given).result()


def _peak(prepare: Callable[..., Callable[[], object]], *given: Any) -> Peak:
    call = prepare(*given)
    _forget_largest()
    before = _largest()
    call()
    return Peak(before, _largest())


def _forget_largest() -> None:
    """Gives freed memory back and makes Linux count from what is resident then."""
    counter = Path("/proc/self/clear_refs")
    if counter.exists():
        ctypes.CDLL(None).malloc_trim(0)  # or a call could take, uncounted, what loading left
        counter.write_text("5")  # man proc_pid_clear_refs


def _largest() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # getrusage also counts what the parent held when it started this process
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
