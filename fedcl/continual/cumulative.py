"""Cumulative training: every experience is learnt with all earlier ones, kept as they were.

The network goes on from where it was, and nothing is forgotten that more images don't crowd
out: the bound of what any memory can do, at the price of keeping the whole stream.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import ContinualMethod, Lesson, Moment, Replayed, Source, plain


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

    def lesson(self, moment: Moment) -> Lesson:  # noqa: ARG002
        """Plain training."""
        return Lesson(plain)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
