"""Freed memory stays in the process, where the C library can be told so."""

import ctypes
import platform
import subprocess
import sys

import pytest

from distill import allocator

# Counts page faults of taking and freeing three blocks of 20 MiB, before and after the call.
# One block alone would not do: glibc keeps by itself what is as large as a block freed before.
PROGRAM = """
import resource
from distill.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        blocks = [bytearray(20 * 2**20) for _ in range(3)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
untold = faults()
took_effect = keep_freed_memory()
faults()
print(took_effect, untold, faults())
"""

on_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own options")


@on_glibc
def test_freed_memory_is_not_faulted_in_again():
    run = [sys.executable, "-c", PROGRAM]
    output = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout
    took_effect, untold, told = output.split()
    assert took_effect == "True"
    assert int(told) * 10 < int(untold)


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", None)  # not callable: to look is to fail
    assert allocator.keep_freed_memory() is False


def test_a_library_without_the_options_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: object())
    assert allocator.keep_freed_memory() is False


@pytest.mark.parametrize(
    # what the library takes, and what is asked of it: option -3 first, then -1
    ("accepts", "asked", "kept"),
    [
        (2**30, [(-3, 2**30), (-1, 2**30)], True),
        (2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**30), (-1, 2**25)], True),
        (0, [(-3, 2**30), (-3, 2**25)], False),
    ],
)
def test_an_older_library_is_asked_for_less(monkeypatch, accepts, asked, kept):
    calls = []

    class Library:
        def mallopt(self, option: int, size: int) -> int:
            calls.append((option, size))
            return int(size <= accepts)

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: Library())
    assert allocator.keep_freed_memory() is kept
    assert calls == asked
