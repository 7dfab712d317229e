"""How freed memory is kept: each side as its own users run it.

Our command line raises glibc's thresholds, so that large tensors don't fault their pages anew
(``distill.allocator``); released code runs on glibc's own, which adapts its thresholds to what
is freed, up to 32 and 64 MiB. Setting these brings that state back.
"""

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from distill.allocator import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_freed_memory

ADAPTED = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**26}  # glibc, malloc.c


def as_glibc_adapts(call: Callable[[], Any]) -> Callable[[], Any]:
    """Returns the call under glibc's own thresholds."""

    def called() -> Any:
        _adapt()
        return call()

    return called


def as_we_set_it(call: Callable[[], Any]) -> Callable[[], Any]:
    """Returns the call under the thresholds that our command line sets."""

    def called() -> Any:
        keep_freed_memory()
        return call()

    return called


def _adapt() -> None:
    if sys.platform.startswith("linux"):
        for option, size in ADAPTED.items():
            ctypes.CDLL(None).mallopt(option, size)
