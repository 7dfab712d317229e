r"""iCaRL: outputs for old classes are held where they were; the nearest mean of exemplars answers.

The network's outputs are :math:`g_c(x) = \sigma(z_c(x))` for logits :math:`z`, one for each class.
With :math:`q_c(x)` the outputs of the network before the experience, old classes :math:`O` and
those of the experience :math:`N`, images of stream and memory alike minimise the mean of

.. math:: \ell(x, y) = \sum_{c \in N} H\big([c = y], g_c(x)\big)
    + \sum_{c \in O} H\big(q_c(x), g_c(x)\big) , \qquad
    H(q, g) = -q \log g - (1 - q) \log(1 - g) .

An image is of the class whose mean feature in the memory is nearest. The paper's own exemplars are
``method=herding buffer.allocation=adaptive buffer.shrink=prefix``.

References:
    | iCaRL: Incremental Classifier and Representation Learning (Rebuffi, Kolesnikov, Sperl and
    | Lampert, CVPR 2017)
    | https://arxiv.org/abs/1611.07725

Differences from the paper: its sum over images is a mean here. The memory comes in a constant ratio
beside every batch, not as part of one shuffled set. Herding compares pixels, not features. The
outputs :math:`q` are those of an image as the step sees it, augmented, from a copy of the network,
which is counted; the paper takes them once an experience. An image of the stream is of its class
whenever that came first. Where tasks are told, an image is no negative of another task's new class.
"""

import copy
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Batch, Lesson, Moment, Rehearsal, State
from fedcl.continual.nearest_mean import NearestMean
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class ICaRL(Rehearsal):
    """Binary outputs that are distilled, and a classifier by exemplars.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept; a copy of the network comes on top, counted beside it.
    """

    method: Condenser
    buffer: Budget

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        self.buffer.check_hard("where classes are told apart by features")

    def lesson(self, moment: Moment) -> Lesson:
        """Training that keeps the outputs of the classes that don't come now."""
        new = list(moment.classes)
        old = [label for label in moment.earlier if label not in new]
        before = copy.deepcopy(moment.network).eval()
        if moment.left:
            before.load_state_dict(dict(moment.left))

        def loss(network: Network, batch: Batch) -> Tensor:
            logits = network(batch.images).float()
            wanted = F.one_hot(batch.labels, logits.shape[1]).to(logits)
            counts = torch.zeros_like(wanted)
            counts[:, new] = 1.0 if batch.answers is None else batch.answers[:, new].to(wanted)
            if old:
                counts[:, old] = 1.0
                with torch.no_grad():
                    outputs = before(batch.images).sigmoid()
                wanted[:, old] = outputs[:, old].to(wanted)
            came = torch.arange(batch.fresh), batch.labels[batch.stream]
            wanted[came] = counts[came] = 1.0  # strays of a blurry stream, too
            terms = F.binary_cross_entropy_with_logits(logits, wanted, counts, reduction="sum")
            return terms / len(logits)

        return Lesson(loss, leave=lambda network, _images, _held: copied(network))

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:
        """The nearest mean of exemplars; before anything is held, the network."""
        return NearestMean.of(network, held) if len(held) else network


def copied(network: Network) -> State:
    """Returns the network's weights as they are now."""
    return {name: weights.clone() for name, weights in network.state_dict().items()}
