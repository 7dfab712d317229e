"""Joint training: all experiences at once, as if there were no stream; the upper bound."""

from dataclasses import dataclass
from typing import final

from fedcl.continual.base import ContinualMethod, Replayed, Source


@final
@dataclass(frozen=True)
class Joint(ContinualMethod):
    """Training on the whole stream together."""

    @property
    def learns(self) -> Source:
        """The whole stream."""
        return "stream"

    @property
    def replayed(self) -> Replayed | None:
        """Nothing."""
        return None
