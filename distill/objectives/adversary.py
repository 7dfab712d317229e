r"""An adversary (HaBa): images that are made of one row shall not look alike to a network.

Of each of :math:`n` rows two of its images :math:`x_i, x'_i`, those of two drawn branches,
are shown to an extractor with features :math:`f`. To the loss :math:`L` of another objective
the set adds

.. math:: \lambda \frac{1}{n} \sum_i \frac{1 + \cos(f(x_i), f(x'_i))}{2} ,

so that its branches drift apart, while the extractor learns to see through them:

.. math:: \gamma\, \mathrm{CE} + \kappa \frac{1}{n} \sum_i \frac{1 - \cos(f(x_i), f(x'_i))}{2}
    - \frac{\eta}{2n} \sum_j \frac{1}{|P_j|} \sum_{p \in P_j}
    \log \frac{\exp(\langle z_j, z_p \rangle / \tau)}{\sum_{a \ne j} \exp(\langle z_j, z_a
    \rangle / \tau)} ,

the cross-entropy of the classes and a contrast over all :math:`2n` normalised features
:math:`z`, where :math:`P_j` are the others of the same class. Each step

    1. trains the extractor on the set as it is, except before the first;
    2. lets the objective pull;
    3. pulls the branches apart.

References:
    | Dataset Distillation via Factorization (Liu et al., NeurIPS 2022)
    | https://arxiv.org/abs/2210.16774
    | Supervised Contrastive Learning (Khosla et al., NeurIPS 2020)
    | https://arxiv.org/abs/2004.11362

Differences from the paper: none. It follows the released code, where the contrast knows the
classes, and any parameterisation with two or more branches can take the hallucinators' place.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.checks import at_least, below_one, positive, whole
from distill.condenser import State
from distill.labels import Labels
from distill.learned import Learned
from distill.networks import Architecture
from distill.objectives.base import Objective, Pulling
from distill.real import RealData
from distill.rng import derive
from distill.training import augmented


@final
@dataclass(frozen=True)
class Adversarial(Objective):
    r"""Another objective, and an extractor that branches have to deceive.

    Attributes:
        objective: What the set is asked for besides.
        extractor: The network that sees pairs of images.
        augmentation: Drawn per image, one family a step.
        rows: n, rows of the set a step, >= 1; None: all.
        diversity: :math:`\lambda`, >= 0; 0.1 in HaBa.
        classification: :math:`\gamma`, >= 0; 1 in HaBa.
        similarity: :math:`\kappa`, >= 0; 0.1 in HaBa.
        contrast: :math:`\eta`, >= 0; 0.1 in HaBa.
        temperature: :math:`\tau`, > 0; 0.07 in HaBa.
        learning_rate: Step size of the extractor, > 0; 0.001 in HaBa.
        momentum: Of its steps, in [0, 1); 0.9 in HaBa.
    """

    objective: Objective
    extractor: Architecture
    augmentation: Augmentation
    rows: int | None
    diversity: float
    classification: float
    similarity: float
    contrast: float
    temperature: float
    learning_rate: float
    momentum: float

    def __post_init__(self) -> None:
        if self.rows is not None:
            whole("adversary rows", self.rows, 1)
        for name in ("diversity", "classification", "similarity", "contrast"):
            at_least(f"adversary {name}", getattr(self, name), 0)
        positive("adversary temperature", self.temperature)
        positive("adversary learning_rate", self.learning_rate)
        below_one("adversary momentum", self.momentum)

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Refuses what the other objective refuses."""
        self.objective.check(labels, rates)

    def begin(self, real: RealData, state: State) -> Pulling:
        """Returns the objective at work."""
        return _Deceiving(self, real, state)


class _Deceiving(Pulling):
    def __init__(self, adversary: Adversarial, real: RealData, state: State) -> None:
        self.adversary, self.real = adversary, real
        self.pulling = adversary.objective.begin(real, state.get("objective", {}))
        self.extractor = real.fresh(adversary.extractor, "extractor")
        self.optimiser = torch.optim.SGD(
            self.extractor.parameters(), adversary.learning_rate, adversary.momentum
        )
        if state:
            self.extractor.load_state_dict(state["extractor"])
            self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))

    def step(self, index: int, small: Learned) -> float:
        if index > 0:
            self._train(small, derive(self.real.seed, "extractor training", index))
        loss = self.pulling.step(index, small)
        return loss + self._pull_apart(small, derive(self.real.seed, "adversary", index))

    def _train(self, small: Learned, rng: torch.Generator) -> None:
        index = pairs(small, self.adversary.rows, rng)
        images = augmented(small.images(index), self.adversary.augmentation, rng)
        labels = small.classes[index].to(images.device)
        features = self.extractor.embed(images)
        loss = self.adversary.classification * F.cross_entropy(
            self.extractor.classifier(features), labels
        )
        loss = loss + self.adversary.similarity * (1 - likeness(features))
        contrasted = contrast(F.normalize(features), labels, self.adversary.temperature)
        loss = loss + self.adversary.contrast * contrasted
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def _pull_apart(self, small: Learned, rng: torch.Generator) -> float:
        index = pairs(small, self.adversary.rows, rng)
        images = small.images(index).requires_grad_()
        seen = augmented(images, self.adversary.augmentation, rng)
        loss = self.adversary.diversity * likeness(self.extractor.embed(seen))
        small.pull(index, *torch.autograd.grad(loss, (images,)))
        return loss.item()

    def state(self) -> dict[str, Any]:
        return {
            "objective": self.pulling.state(),
            "extractor": {k: v.clone() for k, v in self.extractor.state_dict().items()},
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),
        }


def pairs(small: Learned, count: int | None, rng: torch.Generator) -> Tensor:
    """Returns the index of two images of each of n drawn rows, ``(2n,)``, the firsts first.

    Args:
        small: The set.
        count: Rows that are drawn, at most all; None: all.
        rng: Draws the rows, and the two branches, which are the same for all.

    Raises:
        ValueError: If one image is made of a row.
    """
    branches = small.branches
    if branches < 2:
        raise ValueError(
            "parameterisation must make two or more images of a row where an adversary compares "
            f"them, got {branches}; take hallucinators"
        )
    rows = torch.randperm(len(small) // branches, generator=rng)[:count]
    first, second = torch.randperm(branches, generator=rng)[:2].tolist()
    return torch.cat([rows * branches + first, rows * branches + second])


def likeness(features: Tensor) -> Tensor:
    """Returns the mean of (1 + cosine) / 2 over the pairs of ``(2n, D)`` features, in [0, 1]."""
    first, second = features.chunk(2)
    return (1 + F.cosine_similarity(first, second)).mean() / 2


def contrast(features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Returns the supervised contrastive loss of normalised features.

    Args:
        features: ``(N, D)``, at least two of each class.
        labels: Their classes, ``(N,)``.
        temperature: What inner products are divided by, > 0.
    """
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    products = (features @ features.T / temperature).masked_fill(itself, -torch.inf)
    logs = products.log_softmax(1).masked_fill(itself, 0.0)
    alike = (labels.unsqueeze(0) == labels.unsqueeze(1)) & ~itself
    return -((logs * alike).sum(1) / alike.sum(1)).mean()
