r"""MIR: replays those images of the memory that the next step would harm most.

    1. Candidates :math:`(x_j, y_j)` are drawn from the memory.
    2. A virtual step on the batch :math:`B` of the stream, :math:`\theta' = \theta - \eta
       \nabla_\theta L_B(\theta)`, with the mean cross-entropy :math:`L_B` and the step size
       :math:`\eta`.
    3. The :math:`|B|` candidates of the largest :math:`\ell(\theta'; x_j, y_j) - \ell(\theta; x_j,
       y_j)`, the growth of their own cross-entropy, are replayed: a step from :math:`\theta` along
       the mean loss over them and :math:`B`.

References:
    | Online Continual Learning with Maximally Interfered Retrieval (Aljundi, Caccia, Belilovsky,
    | Caccia, Lin, Charlin and Tuytelaars, NeurIPS 2019)
    | https://arxiv.org/abs/1908.04742

Differences from the paper: as many candidates as the batch has images are replayed, in turn where
the memory has fewer, so that the ratio of stream to memory doesn't depend on its size. The virtual
step is the recipe's plain one, without momentum or schedule, on images before their augmentation.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from distill.checks import whole
from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from distill.training import Recipe
from fedcl.continual.answers import among
from fedcl.continual.base import Lesson, Moment, Rehearsal, State, plain
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class MIR(Rehearsal):
    """Replay of what a virtual step forgets.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
        candidates: Images of the memory that are compared before a step, at least a batch.
    """

    method: Condenser
    buffer: Budget
    candidates: int

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        whole("continual.candidates", self.candidates, 1)

    def check_recipe(self, recipe: Recipe) -> None:
        """Refuses batches that need more candidates."""
        if self.candidates < recipe.batch:
            raise ValueError(
                f"continual.candidates must be >= training.batch, {recipe.batch}, "
                f"got {self.candidates}"
            )

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training on chosen images."""

        def choose(network: Network, stream: LabelledImages, held: LabelledImages) -> Tensor:
            rows = torch.randperm(len(held), generator=moment.rng)[: self.candidates]
            growth = interference(network, moment, stream, held.rows(rows))
            chosen = rows[growth.topk(min(len(stream), len(rows))).indices.cpu()]
            return chosen[torch.arange(len(stream)) % len(chosen)]

        return Lesson(plain, choose)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


def interference(
    network: Network, moment: Moment, stream: LabelledImages, candidates: LabelledImages
) -> Tensor:
    """Returns how much a step on the stream adds to the loss of each candidate, ``(n,)``.

    The network stays as it is.

    Args:
        network: As trained so far.
        moment: Has the step size and the answers.
        stream: A batch.
        candidates: Images of the memory.
    """

    def losses(weights: State, data: LabelledImages) -> Tensor:
        logits = functional_call(network, dict(weights), (data.images,))
        if moment.answers is not None:
            logits = among(logits, moment.answers[data.labels])
        return F.cross_entropy(logits, data.labels, reduction="none")

    weights = dict(network.named_parameters())
    gradients = torch.autograd.grad(losses(weights, stream).mean(), list(weights.values()))
    with torch.no_grad():
        ahead = {
            name: weight - moment.recipe.learning_rate * gradient
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
        }
        return losses(ahead, candidates) - losses(weights, candidates)
