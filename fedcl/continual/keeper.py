"""Who fills a memory: at the end of an experience, ahead of it, or as its images stream past."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from typing import final

import torch
from torch import Tensor

from distill.condenser import Given
from distill.images import LabelledImages
from distill.rng import subseed
from fedcl.continual.base import Replayed
from fedcl.memory import Memory

Watch = Callable[[LabelledImages], LabelledImages | None]
Networks = Sequence[Mapping[str, Tensor]]


@final
class Keeper:
    """Keeps one memory, and counts what that takes.

    Attributes:
        replayed: The method that fills the memory, and the budget.
        memory: What is held now.
        seed: Names the random streams.
        device: Where small sets are made, and what is held is handed out.
        seconds: Spent on filling, so far.
    """

    def __init__(self, replayed: Replayed, memory: Memory, seed: int, device: torch.device) -> None:
        self.replayed, self.memory, self.seed, self.device = replayed, memory, seed, device
        self.seconds = 0.0

    @property
    def held(self) -> LabelledImages:
        """The images that the memory holds, normalised."""
        return self.memory.data().to(self.device)

    @property
    def staged(self) -> bool:
        """Whether images wait for the memory to learn them, as they stream past."""
        return self.replayed.budget.staged is not None

    def learn(self, index: int, images: LabelledImages, given: Networks = ()) -> None:
        """Fills the memory with experience ``index`` at once.

        Args:
            index: Which experience it is.
            images: Its images.
            given: Weights of networks for methods that ask for some, the learner's; none: empty.
        """
        method, seed = Given(self.replayed.method, given), self._seed(index, "memory", index)
        with self._timed():
            if self.staged:
                self.memory = self.memory.streamed(images, method, seed)
            else:
                self.memory = self.memory.learn(images, method, seed)

    def finish(self, index: int, given: Networks = ()) -> None:
        """Lets the memory learn what still waits when experience ``index`` ends.

        Args:
            index: Which experience it is.
            given: As :meth:`learn` takes them.
        """
        method, seed = Given(self.replayed.method, given), self._seed(index, "end")
        with self._timed():
            self.memory = self.memory.flushed(method, seed, self.device)

    def watch(self, index: int, given: Networks = ()) -> Watch:
        """Returns what is shown every batch of experience ``index``.

        It answers with what the memory holds, where the batch has changed that, and with None
        where it hasn't.

        Args:
            index: Which experience it is.
            given: As :meth:`learn` takes them; read when a batch is shown, as they are then.
        """
        method, steps = Given(self.replayed.method, given), count()

        def watch(images: LabelledImages) -> LabelledImages | None:
            before, seed = self.memory, self._seed(index, "step", next(steps))
            with self._timed():
                self.memory = before.streamed(images, method, seed)
            return None if self.memory.kept is before.kept else self.held

        return watch

    def _seed(self, index: int, *names: str | int) -> int:
        return subseed(subseed(self.seed, "experience", index), *names)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        clock = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - clock
