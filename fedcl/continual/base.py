"""What a continual method is, before any framework: what it trains on, and what it keeps."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, final

from distill.condenser import Condenser
from fedcl.memory import Budget

Source = Literal["experience", "seen", "stream", "memory"]


@final
@dataclass(frozen=True)
class Replayed:
    """A memory of the stream.

    Attributes:
        method: Makes the small set of each experience.
        budget: How much may be kept.
    """

    method: Condenser
    budget: Budget


class ContinualMethod(ABC):
    """A continual method. Subclasses are final frozen dataclasses."""

    @property
    @abstractmethod
    def learns(self) -> Source:
        """What the network learns from when an experience comes.

        The experience; all that were seen, this one among them; the whole stream at once, as an
        upper bound; or, from scratch, what is replayed alone, once that has learnt the experience.
        """

    @property
    @abstractmethod
    def replayed(self) -> Replayed | None:
        """What is kept of earlier experiences, if anything."""
