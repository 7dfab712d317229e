r"""GDumb: a fresh network learns from the memory alone, after every experience.

    1. The memory :math:`M` takes its small sets of the experience's classes.
    2. A fresh network :math:`\theta_i` is trained on :math:`M`, by the mean loss over it.

So what is measured is what the memory holds. With ``method=dm`` it is the class-incremental
protocol of DC, DSA and DM; with ``method=random buffer.allocation=adaptive`` it is GDumb's own.

References:
    | GDumb: A Simple Approach that Questions Our Progress in Continual Learning (Prabhu, Torr and
    | Dokania, ECCV 2020)
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023)
    | https://arxiv.org/abs/2110.04181

Differences from the papers: GDumb's memory is filled image by image as they stream past; here a
whole experience is seen before its small sets are made, and a class of fewer images than its share
leaves slots empty. Its step size restarts along the way; here it falls once, along a cosine.
"""

from dataclasses import dataclass
from typing import final

from torch import nn

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import ContinualMethod, Lesson, Moment, Replayed, Source, plain
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class GDumb(ContinualMethod):
    """Training from scratch on a memory that any method fills.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
    """

    method: Condenser
    buffer: Budget

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)

    @property
    def learns(self) -> Source:
        """The memory alone."""
        return "memory"

    @property
    def replayed(self) -> Replayed | None:
        """The memory."""
        return Replayed(self.method, self.buffer, ahead=True)

    def lesson(self, moment: Moment) -> Lesson:  # noqa: ARG002
        """Plain training."""
        return Lesson(plain)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
