"""Keeps freed memory in the process, so that large tensors don't fault their pages anew.

glibc gives every block above a threshold back to the kernel as soon as it is freed; the next
activation of the same size then pays a page fault per 4 KiB, which is a third of the time of
a forward pass on many machines and far more under memory pressure.
"""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LARGEST = 2**30, 2**25  # bytes; older glibc accepts no more than the second


def keep_freed_memory() -> bool:
    """Raises both thresholds for this process; returns whether it took effect.

    It does nothing where the C library is not glibc. Call it once in every process,
    before the first large tensor.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    options = (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD)
    return all(any(mallopt(option, size) for size in LARGEST) for option in options)
