"""The peak memory of this process, counted anew from a moment on where Linux lets it."""

import ctypes
import resource
import sys
from contextlib import suppress
from pathlib import Path

COUNTER, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")  # man proc_pid


def forget_peak() -> None:
    """Gives freed memory back and counts from what is resident then; nothing but on Linux."""
    if not COUNTER.exists():
        return
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)  # or what comes next could take, uncounted, what was left
    with suppress(OSError):  # where the container forbids it, the peak stays that of all
        COUNTER.write_text("5")


def peak_bytes() -> int:
    """Returns the largest resident size since :func:`forget_peak`, or of the process."""
    if STATUS.exists():  # getrusage also counts what the parent held when it started this process
        return int(STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
