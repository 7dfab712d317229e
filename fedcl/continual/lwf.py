r"""Learning without forgetting: on new images, old classes are to be answered as before.

With logits :math:`z` of the network, :math:`z^*` of the network as the experience found it,
and the classes :math:`O` of an earlier task, the loss is the cross-entropy plus

.. math:: \lambda \sum_O -\frac{1}{B} \sum_{i=1}^{B} \sum_{c \in O}
    \sigma_O(z^*_i / T)_c \, \log \sigma_O(z_i / T)_c ,

the mean over a batch of :math:`B` new images, where :math:`\sigma_O` is the softmax over
:math:`O` and :math:`T` a temperature. Where images don't come with their task, all earlier
classes are one :math:`O`. If it is diluted, the cross-entropy counts :math:`1/n` at the n-th
experience, as in the second paper, whose :math:`\lambda` changes, too.

References:
    | Learning without Forgetting (Li and Hoiem, ECCV 2016)
    | https://arxiv.org/abs/1606.09282
    | Three scenarios for continual learning (van de Ven and Tolias, 2019)
    | https://arxiv.org/abs/1904.07734

Differences from the paper: its warm-up, which first trains the new classes' weights alone, is
left out, as in Avalanche. One head has all classes; without tasks, the cross-entropy is over all.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, positive
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Batch, Lesson, Memoryless, Moment, State, plain


@final
@dataclass(frozen=True)
class LwF(Memoryless):
    r"""Learning without forgetting.

    Attributes:
        strength: :math:`\lambda`, >= 0, of all experiences, or of each; the last one's then is
            that of those beyond.
        temperature: :math:`T`, > 0.
        diluted: Whether new images count less from experience to experience.
    """

    strength: float | Sequence[float]
    temperature: float
    diluted: bool = False

    def __post_init__(self) -> None:
        if not self.strengths:
            raise ValueError("continual.strength must be a number or some, got none")
        for strength in self.strengths:
            at_least("continual.strength", strength, 0)
        positive("continual.temperature", self.temperature)

    @property
    def strengths(self) -> Sequence[float]:
        """Those of the first experiences."""
        return self.strength if isinstance(self.strength, Sequence) else [self.strength]

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training beside a teacher, the network as it is now."""
        if not moment.earlier:
            return Lesson(plain, leave=duplicate)
        teacher, tasks = copy.deepcopy(moment.network).eval(), earlier_tasks(moment)
        strength = self.strengths[min(moment.index, len(self.strengths) - 1)]
        share = 1 / (moment.index + 1) if self.diluted else 1.0

        def loss(network: Network, batch: Batch) -> Tensor:
            logits = network(batch.images).float()
            with torch.no_grad():
                taught = teacher(batch.images).float()
            drift = distance(logits, taught, tasks, self.temperature)
            return share * batch.cross_entropy(logits) + strength * drift

        return Lesson(loss, leave=duplicate)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


def duplicate(network: Network, *_: LabelledImages) -> State:
    """Returns the network's tensors: the teacher that stays while the next experience is learnt."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def earlier_tasks(moment: Moment) -> list[Tensor]:
    """Returns the classes of each earlier task, or of all as one where tasks aren't told."""
    if moment.answers is None:
        return [torch.tensor(sorted(set(moment.earlier)))]
    rows = torch.unique(moment.answers[list(moment.earlier)], dim=0)
    return [row.nonzero().squeeze(1) for row in rows]


def distance(logits: Tensor, taught: Tensor, tasks: Sequence[Tensor], temperature: float) -> Tensor:
    """Returns the distillation loss, summed over tasks.

    Args:
        logits: Of the network, ``(B, num_classes)``.
        taught: Of the teacher, ``(B, num_classes)``.
        tasks: Classes of each task, int64.
        temperature: What both are divided by.
    """
    logits, taught = logits / temperature, taught / temperature
    losses = [F.cross_entropy(logits[:, task], taught[:, task].softmax(1)) for task in tasks]
    return torch.stack(losses).sum()
