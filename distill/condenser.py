"""The one call behind ``method=``: a large labelled set in, a small one out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from distill.images import LabelledImages, Normalisation
from distill.synthetic import SyntheticSet

State = Mapping[str, Any]  # tensors and plain values, as torch.save keeps them


@final
@dataclass(frozen=True)
class Task:
    """What is to be made small, and how small.

    Attributes:
        real: Normalised float32 images.
        counts: Images wanted of each class, int64 ``(num_classes,)``; 0 where the class has
            no real image.
        normalisation: The map under which ``real`` was normalised.
        seed: Names the random streams of this task.
        given: Weights of networks that the set is to be good for, oldest first; none: empty.
        networks: Names the random streams of networks that know nothing of the images, so that
            tasks of one name see the same ones; None: this task's ``seed`` does.
        withheld: Numbers that a decoded set may not use, >= 0, of those of ``counts`` pixel images.
    """

    real: LabelledImages
    counts: Tensor
    normalisation: Normalisation
    seed: int
    given: Sequence[Mapping[str, Tensor]] = ()
    networks: int | None = None
    withheld: int = 0

    def __post_init__(self) -> None:
        if (
            self.counts.shape != (self.real.num_classes,)
            or not (self.counts >= 0).all()
            or self.counts.sum() < 1
        ):
            raise ValueError(
                f"counts must have shape ({self.real.num_classes},) with values >= 0 "
                f"and a sum >= 1, got {self.counts.tolist()}"
            )
        empty = (self.counts > 0) & (self.real.counts == 0)
        if empty.any():
            raise ValueError(
                f"counts must be 0 for classes without a real image, "
                f"got {self.counts[empty].tolist()} for {empty.nonzero().flatten().tolist()}"
            )

    @property
    def classes(self) -> list[int]:
        """The classes that get images, ascending."""
        return [int(label) for label in self.counts.nonzero().flatten()]

    @property
    def numbers(self) -> int:
        """The numbers of as many pixel images as it counts."""
        return int(self.counts.sum()) * math.prod(self.real.image_shape)

    @property
    def labels(self) -> Tensor:
        """The labels of the small set, ordered by class, int64."""
        return torch.arange(len(self.counts)).repeat_interleave(self.counts)


@final
@dataclass(frozen=True)
class Step:
    """Where condensing stands.

    Attributes:
        done: Steps taken so far.
        total: Steps there will be.
        loss: Loss of this step, if it has one.
        state: Returns what ``steps`` needs to go on from here.
        result: Returns the set as it is now.
        start: With the first step, what ``steps`` needs to begin again, now that this step's
            loss has shown it to be good; None: with any other, or where there is no such state.
    """

    done: int
    total: int
    loss: float | None
    state: Callable[[], State]
    result: Callable[[], SyntheticSet]
    start: State | None = None


class Condenser(ABC):
    """Makes a small set out of a large one. Subclasses are final frozen dataclasses."""

    @property
    @abstractmethod
    def makes_pixels(self) -> bool:
        """Whether the set is kept as pixels, as many images as the task counts."""

    @abstractmethod
    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        """Yields at least one step; the last one's result is the small set.

        Args:
            task: The real images and the counts wanted.
            state: What an earlier iteration's step left, to go on from there.
        """

    def check(self, task: Task) -> None:  # noqa: B027  most methods take any
        """Refuses a task that has too few numbers for any set, before work begins.

        Raises:
            TooFewNumbersError: If it has.
        """


@final
@dataclass(frozen=True)
class Given(Condenser):
    """A method whose tasks are all given the same networks.

    Attributes:
        method: Makes the sets.
        given: Weights of the networks, oldest first.
    """

    method: Condenser
    given: Sequence[Mapping[str, Tensor]]

    @property
    def makes_pixels(self) -> bool:
        """As the method."""
        return self.method.makes_pixels

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        """Yields the method's steps."""
        yield from self.method.steps(replace(task, given=self.given), state)

    def check(self, task: Task) -> None:
        """As the method."""
        self.method.check(task)


def pixels_alone(condenser: Condenser) -> None:
    """Refuses a method whose images are decoded, where images are stored or sent as pixels.

    Raises:
        ValueError: If one image of the task becomes several, or is no image where it is kept.
        TypeError: If it is no method.
    """
    if not isinstance(condenser, Condenser):
        raise TypeError(f"method must be a Condenser, as method('dm') is, got {condenser!r}")
    if not condenser.makes_pixels:
        raise ValueError(
            "method must keep its images as pixels here, since memories and uploads count those; "
            "take parameterisation=pixels"
        )


def condense(condenser: Condenser, task: Task) -> SyntheticSet:
    """Returns the small set, all steps taken."""
    *_, last = condenser.steps(task)
    return last.result()


def even_counts(real: LabelledImages, ipc: int) -> Tensor:
    """Returns ``ipc`` images for each class, or as many as it has real ones, if fewer."""
    return real.counts.clamp(max=ipc)
