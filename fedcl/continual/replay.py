r"""Replay: every batch of the stream comes with images of a small memory.

Training on a batch :math:`B` of the current experience and a batch :math:`M` drawn from the
memory minimises the mean cross-entropy over :math:`B \cup M`. After an experience, each of
its classes gives the memory a small set: real images with ``method=random``, distilled ones
with ``method=dm``, and so on.

References:
    | On Tiny Episodic Memories in Continual Learning (Chaudhry et al., 2019)
    | https://arxiv.org/abs/1902.10486
    | Distilled Replay (Rosasco, Carta, Cossu, Lomonaco and Bacciu, 2021)
    | https://arxiv.org/abs/2103.15851

Differences from the papers: :math:`|M| = |B|` in every step, drawn with replacement. Stock
loaders cycle through the memory in batches, the last one short, so the ratio of stream to
memory depends on the memory's size and moves accuracy more than the methods do.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Lesson, Moment, Rehearsal, plain
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class Replay(Rehearsal):
    """Replay from a memory that any method fills.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
    """

    method: Condenser
    buffer: Budget

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)

    def lesson(self, moment: Moment) -> Lesson:  # noqa: ARG002
        """Plain training."""
        return Lesson(plain)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
