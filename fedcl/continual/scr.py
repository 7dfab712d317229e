r"""SCR: a supervised contrastive loss over stream and memory; the nearest class mean answers.

For the images :math:`I` of two views, as they are and augmented, of a batch of the stream and one
of the memory, with :math:`z_i` the projection of image :math:`i` scaled to norm one, :math:`P(i)`
the other images of its class and :math:`\tau` the temperature,

.. math:: L = \frac{1}{|I|} \sum_{i \in I} \frac{-1}{|P(i)|} \sum_{p \in P(i)} \log
    \frac{e^{z_i \cdot z_p / \tau}}{\sum_{a \in I \setminus \{i\}} e^{z_i \cdot z_a / \tau}} .

No last layer is there to be biased towards what came last: an image is of the class whose mean
feature in the memory is nearest. Where tasks are told, :math:`a` is of :math:`i`'s task.

References:
    | Supervised Contrastive Replay: Revisiting the Nearest Class Mean Classifier in Online
    | Class-Incremental Continual Learning (Mai, Li, Kim and Sanner, CVPR Workshops 2021)
    | https://arxiv.org/abs/2103.13885
    | Supervised Contrastive Learning (Khosla et al., NeurIPS 2020)
    | https://arxiv.org/abs/2004.11362

Differences from the paper: its projection is an MLP to 128 numbers, here it is the network's own
last layer, to as many as there are classes: the points of least loss need no more, and what is
trained, kept and counted is the network alone. Its views are crops, flips and colours; here one is
the recipe's augmentation. In the first experience the memory is empty, and the stream is
contrasted with itself.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.checks import positive, whole
from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Batch, Lesson, Moment, Rehearsal
from fedcl.continual.nearest_mean import NearestMean
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class SCR(Rehearsal):
    """Replay that contrasts classes.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
        memory_batch: Images of the memory in a batch, fewer where it holds fewer, >= 1.
        temperature: Divides the similarities, > 0.
    """

    method: Condenser
    buffer: Budget
    memory_batch: int
    temperature: float

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        self.buffer.check_hard("where classes are told apart by features")
        whole("continual.memory_batch", self.memory_batch, 1)
        positive("continual.temperature", self.temperature)

    def lesson(self, moment: Moment) -> Lesson:
        """Training that contrasts two views of stream and memory."""

        def loss(network: Network, batch: Batch) -> Tensor:
            z = F.normalize(network(torch.cat([batch.plain, batch.images])).float())
            return contrast(z @ z.T / self.temperature, batch.labels.repeat(2), moment.answers)

        def choose(_: Network, _stream: LabelledImages, held: LabelledImages) -> Tensor:
            order = torch.randperm(len(held), generator=moment.rng)
            return order[: self.memory_batch]

        return Lesson(loss, choose)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:
        """The nearest class mean; before anything is held, the network."""
        return NearestMean.of(network, held) if len(held) else network


def contrast(similarities: Tensor, labels: Tensor, answers: Tensor | None) -> Tensor:
    """Returns the supervised contrastive loss.

    Args:
        similarities: Of the images, divided by the temperature, ``(n, n)``.
        labels: Their classes, each of two images or more, int64, ``(n,)``.
        answers: For each class the classes that it is contrasted with, bool
            ``(num_classes, num_classes)``; None: all.
    """
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positives = others & (labels[:, None] == labels)
    rivals = others if answers is None else others & answers[labels][:, labels]
    total = similarities.masked_fill(~rivals, -torch.inf).logsumexp(1, keepdim=True)
    return (((total - similarities) * positives).sum(1) / positives.sum(1)).mean()
