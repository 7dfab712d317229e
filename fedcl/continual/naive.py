"""Naive fine-tuning: train on each experience as it comes, keep nothing; the lower bound."""

from dataclasses import dataclass
from typing import final

from fedcl.continual.base import ContinualMethod, Replayed


@final
@dataclass(frozen=True)
class Naive(ContinualMethod):
    """Fine-tuning without a memory."""

    @property
    def at_once(self) -> bool:
        """False: experience by experience."""
        return False

    @property
    def replayed(self) -> Replayed | None:
        """Nothing."""
        return None
