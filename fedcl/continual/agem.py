r"""A-GEM: no step may raise the loss on the memory, to first order.

With :math:`g` the gradient of the mean loss on a batch of the stream and :math:`r` that on images
drawn from the memory, the step follows :math:`g` where :math:`\langle g, r \rangle \ge 0`, and
else the nearest direction that leaves the memory's loss alone,

.. math:: \tilde g = g - \frac{\langle g, r \rangle}{\langle r, r \rangle} \, r .

References:
    | Efficient Lifelong Learning with A-GEM (Chaudhry, Ranzato, Rohrbach and Elhoseiny, ICLR 2019)
    | https://arxiv.org/abs/1812.00420

Differences from the paper: none in the formula. Its memory has real images of each task, drawn
as they stream past; any method fills this one, once an experience is learnt. Tasks are told by
the stream, or not; the paper's always are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from distill.checks import whole
from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from distill.precision import products
from fedcl.continual.base import Batch, Lesson, Moment, Rehearsal
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class AGEM(Rehearsal):
    """Averaged gradient episodic memory.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
        sample: Images of the memory whose gradient a step is compared with, >= 1, drawn without
            replacement; all, where it has fewer.
    """

    method: Condenser
    buffer: Budget
    sample: int

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        whole("continual.sample", self.sample, 1)

    def lesson(self, moment: Moment) -> Lesson:
        """Training on the stream's part of every batch, along projected gradients."""

        def loss(network: Network, batch: Batch) -> Tensor:
            return mean_loss(network, batch, batch.stream)

        def choose(_: Network, _stream: LabelledImages, held: LabelledImages) -> Tensor:
            return torch.randperm(len(held), generator=moment.rng)[: self.sample]

        def adjust(network: Network, batch: Batch) -> None:
            if len(batch.rows) == 0:
                return
            weights = [w for w in network.parameters() if w.grad is not None]
            with products(moment.recipe.precision, batch.images.device):
                reference = torch.autograd.grad(mean_loss(network, batch, batch.memory), weights)
            project_([w.grad for w in weights if w.grad is not None], reference)

        return Lesson(loss, choose=choose, adjust=adjust)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


def mean_loss(network: Network, batch: Batch, part: slice) -> Tensor:
    """Returns the mean cross-entropy over a part of the batch."""
    return batch.cross_entropy(network(batch.images[part]), part)


def project_(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> None:
    """Takes from gradients what points against a reference, all tensors as one vector."""
    along = sum(float((g * r).sum()) for g, r in zip(gradients, reference, strict=True))
    if along < 0:
        length = sum(float(r.square().sum()) for r in reference)
        for g, r in zip(gradients, reference, strict=True):
            g.sub_(r, alpha=along / length)
