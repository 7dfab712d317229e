"""Naive fine-tuning: train on each experience as it comes, keep nothing; the lower bound."""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import ContinualMethod, Lesson, Moment, Replayed, Source, plain


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

    def lesson(self, moment: Moment) -> Lesson:  # noqa: ARG002
        """Plain training."""
        return Lesson(plain)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
