"""What a continual method is, before any framework: what it trains on, and what it keeps."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from distill.condenser import Condenser
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class Replayed:
    """A memory to replay from.

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
    def at_once(self) -> bool:
        """Whether all experiences are trained on together, as an upper bound."""

    @property
    @abstractmethod
    def replayed(self) -> Replayed | None:
        """What is replayed beside the stream, if anything."""
