"""The peak memory of one call, in a process of its own."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, final

from experiments.peak import forget_peak, peak_bytes


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
    forget_peak()
    before = peak_bytes()
    call()
    return Peak(before, peak_bytes())
