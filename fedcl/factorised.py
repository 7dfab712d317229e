"""Small sets whose images are decoded from numbers, made to fit into so many bytes."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from distill.condenser import Condenser, Task
from distill.parameterisations.base import TooFewNumbersError
from distill.stores import RANGE_BYTES, itemsize
from distill.synthetic import CLASS_BYTES, SyntheticSet


def kept_bytes(small: SyntheticSet, store: str) -> int:
    """Returns the bytes of a set in a store, with those of a generator that decodes it."""
    return small.storage_bytes(store) + small.given_bytes


def check_fits(method: Condenser, task: Task, most: int, store: str) -> None:
    """Refuses bytes that hold no set of a task, as far as that is known before it is begun.

    Args:
        method: Makes the set.
        task: As of :func:`fitted`.
        most: Bytes that the set may take.
        store: The type of numbers.

    Raises:
        ValueError: If they are too few.
    """
    with _told(task, most):
        method.check(_fitting(task, store, most))


def fitted(
    method: Condenser, task: Task, store: str, most: int, soft: bool = False
) -> SyntheticSet:
    """Returns the small set of a task as it is read back from a store.

    What a set takes beside its images isn't known before it is begun; where that is too much,
    fewer numbers may be used.

    Args:
        method: Makes the set.
        task: Its counts are the pixel images whose numbers may be used at most.
        store: The type of numbers.
        most: Bytes that the set may take.
        soft: Whether its images keep the labels that they learned, or their classes alone.

    Raises:
        ValueError: If a set of an image a class takes more.
    """
    task = _fitting(task, store, most)
    while True:
        steps = method.steps(task)
        with _told(task, most):
            last = next(steps)
        begun = _named(last.result(), soft)
        excess = kept_bytes(begun, store) - most
        if excess <= 0:
            *_, last = last, *steps
            return _named(last.result(), soft).stored(store)
        withheld = task.withheld + math.ceil(excess / itemsize(store))
        if withheld >= task.numbers:
            raise ValueError(
                f"the buffer must hold this method's set of classes {task.classes}, which takes "
                f"{most + excess} bytes, {begun.given_bytes} of them a generator's, got {most}"
            )
        task = replace(task, withheld=withheld)


def _fitting(task: Task, store: str, most: int) -> Task:
    """Returns the task with the least numbers withheld that a set takes beside its images."""
    beside = CLASS_BYTES * len(task.classes) + (RANGE_BYTES if store == "uint8" else 0)
    excess = task.numbers * itemsize(store) + beside - most
    return replace(task, withheld=max(0, math.ceil(excess / itemsize(store))))


@contextmanager
def _told(task: Task, most: int) -> Iterator[None]:
    """Says of which buffer's part the numbers are too few."""
    try:
        yield
    except TooFewNumbersError as error:
        raise ValueError(
            f"the buffer has {most} bytes for classes {task.classes}: {error}"
        ) from error


def _named(small: SyntheticSet, soft: bool) -> SyntheticSet:
    targets = small.data.targets if soft else None
    return replace(small, data=replace(small.data, targets=targets), rates=())
