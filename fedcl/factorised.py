"""Small sets whose images are decoded from numbers, made to fit into so many bytes."""

import math
from collections.abc import Iterator
from dataclasses import replace

from distill.condenser import Condenser, Step, Task
from distill.parameterisations.base import TooFewNumbersError
from distill.stores import itemsize
from distill.synthetic import SyntheticSet


def kept_bytes(small: SyntheticSet, store: str) -> int:
    """Returns the bytes of a set in a store, with those of a generator that decodes it."""
    return small.storage_bytes(store) + small.given_bytes


def fitted(
    method: Condenser, task: Task, store: str, most: int, soft: bool = False
) -> SyntheticSet:
    """Returns the small set of a task as it is read back from a store.

    A set's own overhead, such as its counts and the ranges of its numbers, isn't known before
    it is begun; where it is too large, the task asks for fewer images.

    Args:
        method: Makes the set.
        task: Its counts are the pixel images whose numbers may be used at most.
        store: The type of numbers.
        most: Bytes that the set may take.
        soft: Whether its images keep the labels that they learned, or their classes alone.

    Raises:
        ValueError: If a set of an image a class takes more.
    """
    while True:
        steps = method.steps(task)
        last = _first(steps, task, most)
        begun = _named(last.result(), soft)
        excess = kept_bytes(begun, store) - most
        if excess <= 0:
            *_, last = last, *steps
            return _named(last.result(), soft).stored(store)
        one = len(task.classes) * math.prod(task.real.image_shape) * itemsize(store)
        left = task.counts[task.classes] - math.ceil(excess / one)
        if left.min() < 1:
            raise ValueError(
                f"the buffer must hold this method's set of classes {task.classes}, which takes "
                f"{most + excess} bytes, {begun.given_bytes} of them a generator's, got {most}"
            )
        counts = task.counts.clone()
        counts[task.classes] = left
        task = replace(task, counts=counts)


def _first(steps: Iterator[Step], task: Task, most: int) -> Step:
    try:
        return next(steps)
    except TooFewNumbersError as error:
        raise ValueError(
            f"the buffer has {most} bytes for classes {task.classes}: {error}"
        ) from error


def _named(small: SyntheticSet, soft: bool) -> SyntheticSet:
    targets = small.data.targets if soft else None
    return replace(small, data=replace(small.data, targets=targets), rates=())
