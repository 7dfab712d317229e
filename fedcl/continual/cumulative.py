"""Cumulative training: every experience is learnt with all earlier ones, kept as they were.

The network goes on from where it was, and nothing is forgotten that more images don't crowd
out: the bound of what any memory can do, at the price of keeping the whole stream.
"""

from dataclasses import dataclass
from typing import final

from fedcl.continual.base import ContinualMethod, Replayed, Source


@final
@dataclass(frozen=True)
class Cumulative(ContinualMethod):
    """Training on all that was seen."""

    @property
    def learns(self) -> Source:
        """All experiences so far."""
        return "seen"

    @property
    def replayed(self) -> Replayed | None:
        """Nothing: experiences are kept as they came."""
        return None
