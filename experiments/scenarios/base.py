"""What every scenario is: fields, a check against the data, and steps that can resume."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, final

from torch import Tensor

from distill.images import LabelledImages
from distill.synthetic import SyntheticSet
from experiments.forecast import Forecast
from fedcl.datasets import DatasetSource


@final
@dataclass(frozen=True)
class Progress:
    """Where a run stands: ``done`` of ``total`` units, parts of one too, and words about it."""

    done: float
    total: int
    text: str


@final
@dataclass(frozen=True)
class Outcome:
    """What a run measured.

    Attributes:
        metrics: Named numbers and matrices, as DESIGN.md section 6 lists them.
        history: One mapping a round, experience, or nothing.
        synthetic: The small set that was made, if any.
        real: A few real images of each class to show beside it, uint8.
        evolution: The first image of each class after some steps, uint8 ``(K, C, H, W)``.
        memories: A few images of each class that the memory held after each experience, uint8.
        seen: The same images as each of some clients sees them, uint8 ``(N, C, H, W)``.
    """

    metrics: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    synthetic: SyntheticSet | None = None
    real: LabelledImages | None = None
    evolution: Mapping[int, Tensor] = field(default_factory=dict)
    memories: Mapping[int, LabelledImages] = field(default_factory=dict)
    seen: Mapping[int, Tensor] = field(default_factory=dict)


class Folder(Protocol):
    """What a scenario sees of its run's folder."""

    def load_checkpoint(self) -> Mapping[str, Any] | None:
        """Returns what was saved last, or None at a fresh start."""

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, atomically."""

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces a file of one JSON object a line, atomically."""

    def note(self, progress: Progress) -> None:
        """Says where the run stands between two steps."""


Steps = Generator[Progress, None, Outcome]


class Run(ABC):
    """A scenario with its data: checked, and ready to start or to resume."""

    @abstractmethod
    def steps(self, folder: Folder) -> Steps:
        """Yields progress and returns the outcome; goes on from the folder's checkpoint."""

    @abstractmethod
    def forecast(self) -> Forecast:
        """Returns what the steps will send, hold and take, as far as it can be told in seconds."""


class Scenario(ABC):
    """A scenario's fields. Subclasses are final frozen dataclasses; YAML fills them.

    Attributes:
        dataset: Where the images come from.
    """

    dataset: DatasetSource

    @abstractmethod
    def prepare(self, device: str) -> Run:
        """Loads the data and checks the fields against it.

        Args:
            device: Where networks and images are to be, ``cpu`` or an accelerator.

        Raises:
            ValueError: If the data isn't there, or a field doesn't fit it.
        """
