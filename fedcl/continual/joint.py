"""Joint training: all experiences at once, as if there were no stream; the upper bound."""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import ContinualMethod, Lesson, Moment, Replayed, Source, plain


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

    def lesson(self, moment: Moment) -> Lesson:  # noqa: ARG002
        """Plain training."""
        return Lesson(plain)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
