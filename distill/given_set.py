"""A small set that is there already, as the start from which another is made."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from distill.condenser import Condenser, State, Step, Task
from distill.synthetic import SyntheticSet


@final
@dataclass(frozen=True)
class GivenSet(Condenser):
    """The set as it is, whatever the real images.

    Attributes:
        small: The set, of as many images of each class as tasks will want.
    """

    small: SyntheticSet

    @property
    def makes_pixels(self) -> bool:
        """Whether the set is kept as pixels."""
        return self.small.code is None

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step.

        Raises:
            ValueError: If the task wants other numbers of images.
        """
        if not task.counts.equal(self.small.data.counts):
            raise ValueError(
                f"counts must be those of the given set, {self.small.data.counts.tolist()}, "
                f"got {task.counts.tolist()}"
            )
        yield Step(1, 1, None, dict, lambda: self.small)
