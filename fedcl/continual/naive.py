"""Naive fine-tuning: train on each experience as it comes, keep nothing; the lower bound."""

from dataclasses import dataclass
from typing import final

from fedcl.continual.base import ContinualMethod, Replayed, Source


@final
@dataclass(frozen=True)
class Naive(ContinualMethod):
    """Fine-tuning without a memory."""

    @property
    def learns(self) -> Source:
        """The experience alone."""
        return "experience"

    @property
    def replayed(self) -> Replayed | None:
        """Nothing."""
        return None
