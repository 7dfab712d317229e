r"""ER-ACE: new images are told apart among themselves, replayed ones among all that was seen.

For a batch :math:`B` of the stream, whose classes are :math:`C_B`, a batch :math:`M` of the memory
and all classes :math:`C` seen so far, the loss is

.. math:: L = \frac{1}{|B| + |M|} \Big(
    \sum_{(x, y) \in B} \ell(x, y; C_B) + \sum_{(x, y) \in M} \ell(x, y; C) \Big) , \qquad
    \ell(x, y; A) = -\log \frac{e^{z_y(x)}}{\sum_{a \in A} e^{z_a(x)}} ,

with the logits :math:`z`. So new images never push the logits of old classes down; it is the
memory that tells old classes from new ones, and it learns an experience before the network does.

References:
    | New Insights on Reducing Abrupt Representation Change in Online Continual Learning (Caccia,
    | Aljundi, Asadi, Tuytelaars, Pineau and Belilovsky, ICLR 2022)
    | https://arxiv.org/abs/2104.05025

Differences from the paper: its memory takes images as they stream past. It adds the two means, here
all images weigh the same, as in replay, so that a step size means the same in both. Its code leaves
the stream's images some classes that were never seen, those above the highest label so far; here
they have the classes of their batch alone.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Batch, ContinualMethod, Lesson, Moment, Replayed, Source
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class ERACE(ContinualMethod):
    """Replay with an asymmetric cross-entropy.

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
        """The experience, with the memory beside it."""
        return "experience"

    @property
    def replayed(self) -> Replayed | None:
        """The memory, which holds the experience's classes while the network learns it."""
        return Replayed(self.method, self.buffer, ahead=True)

    def lesson(self, moment: Moment) -> Lesson:
        """Training with the asymmetric loss."""
        seen = [*moment.earlier, *moment.classes]

        def loss(network: Network, batch: Batch) -> Tensor:
            logits = network(batch.images)
            heard = torch.zeros_like(logits, dtype=torch.bool)
            heard[batch.stream][:, batch.labels[batch.stream]] = True
            heard[batch.memory][:, seen] = True
            heard[batch.memory][:, batch.labels[batch.memory]] = True  # strays of a blurry stream
            return batch.cross_entropy(logits.masked_fill(~heard, -torch.inf))

        return Lesson(loss)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network
