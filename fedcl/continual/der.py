r"""DER and DER++: what the network once said of the memory's images, it is to go on saying.

For a batch :math:`B` of the stream and images :math:`x` of the memory with classes :math:`y` and
kept logits :math:`z`, with :math:`h` the network's logits for :math:`C` classes,

.. math:: L = \mathbb{E}_{(x, y) \in B}\, \ell(h(x), y)
    + \alpha\, \mathbb{E}_{(x, z) \in M} \tfrac{1}{C} \| z - h(x) \|_2^2
    + \beta\, \mathbb{E}_{(x, y) \in M}\, \ell(h(x), y) ,

where :math:`\ell` is the cross-entropy. With :math:`\beta = 0` it is DER, else DER++.

References:
    | Dark Experience for General Continual Learning: a Strong, Simple Baseline (Buzzega, Boschini,
    | Porrello, Abati and Calderara, NeurIPS 2020)
    | https://arxiv.org/abs/2004.07211

Differences from the paper: an image's logits are those at the end of the experience that brought it
into the memory, before augmentation, not those of the step at which a reservoir took it, for the
memory is filled once an experience is over; an image that is distilled anew gets new ones. Both
terms see one batch of the memory, not one each. The square is a mean over logits, as in its code.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least
from distill.condenser import Condenser
from distill.images import LabelledImages, bytes_of
from distill.networks import Network
from distill.training import SCORED_AT_ONCE
from fedcl.continual.base import Batch, Lesson, Moment, Rehearsal, State, plain
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class DER(Rehearsal):
    """Replay of images with the logits that they once had.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept; the logits come on top, and are counted beside it.
        alpha: Weight of the squared distance from the kept logits, >= 0.
        beta: Weight of the cross-entropy of the memory's classes, >= 0.
    """

    method: Condenser
    buffer: Budget
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        self.buffer.check_unstaged("where logits are kept with the images")
        self.buffer.check_lasting("where logits are kept with the images")
        at_least("continual.alpha", self.alpha, 0)
        at_least("continual.beta", self.beta, 0)

    def lesson(self, moment: Moment) -> Lesson:
        """Training that holds on to kept logits, once there are some."""

        def loss(network: Network, batch: Batch) -> Tensor:
            logits, kept = network(batch.images).float(), moment.left["logits"][batch.rows]
            return (
                batch.cross_entropy(logits[batch.stream], batch.stream)
                + self.alpha * F.mse_loss(logits[batch.memory], kept)
                + self.beta * batch.cross_entropy(logits[batch.memory], batch.memory)
            )

        def leave(network: Network, _images: LabelledImages, held: LabelledImages) -> State:
            return {"logits": kept_logits(network, held, moment)}

        return Lesson(loss if moment.left else plain, leave=leave)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


@torch.no_grad()
def kept_logits(network: Network, held: LabelledImages, before: Moment) -> Tensor:
    """Returns logits ``(n, num_classes)``: those that an image had, the network's where it is new.

    Args:
        network: As the experience leaves it.
        held: What the memory holds now.
        before: What it held, with the logits, before the experience.
    """
    network.eval()
    logits = torch.cat([network(part) for part in torch.split(held.images, SCORED_AT_ONCE)])
    had = dict(zip(map(bytes_of, before.held.images), before.left.get("logits", ()), strict=False))
    pairs = zip(map(bytes_of, held.images), logits, strict=True)
    return torch.stack([had.get(image, row) for image, row in pairs])
