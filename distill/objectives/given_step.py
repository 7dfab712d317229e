r"""Gradient matching to a step that somebody else took: train a network the way that it went.

Of two given networks, :math:`w` and the later :math:`w'`, the set's gradient at the one is to be
that of the step to the other. With the mean cross-entropy :math:`\ell` on all its images,

.. math:: L = D(\nabla_w \ell(w; S), \; w - w') ,

D being one of gradient.py. Where :math:`w'` is the mean of :math:`w - \nabla_w \ell_k` over
clients, the set so has the mean of their gradients.

References:
    | Federated Virtual Learning on Heterogeneous Data with Local-global Distillation (Huang,
    | Jin, Zhao, Xu and Li, TMLR 2024), https://arxiv.org/abs/2303.02278

Differences from the paper: the network is the given one in every step.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from distill.condenser import State
from distill.given import check_all_alike
from distill.labels import HardLabels, Labels
from distill.learned import Learned
from distill.networks import Architecture, ImageShape
from distill.objectives.base import Objective, Pulling
from distill.objectives.gradient import GradientMatching
from distill.pullback import Weights, traced_gradient
from distill.real import RealData


@final
@dataclass(frozen=True)
class GivenStep(Objective):
    """The distance of the set's gradient from the step between the task's last two networks.

    Attributes:
        architecture: What they are.
        matching: D, and the layers that count.
    """

    architecture: Architecture
    matching: GradientMatching

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Refuses anything but images to learn.

        Raises:
            ValueError: If labels or a step size are to be learned.
        """
        if not isinstance(labels, HardLabels) or rates:
            raise ValueError("labels must be hard and method.rate null where a step is matched")

    def check_given(self, given: Sequence[Weights], image_shape: ImageShape, classes: int) -> None:
        """Refuses a task that gives fewer than two networks, or others of another architecture.

        Raises:
            ValueError: Saying so.
        """
        if len(given) < 2:
            raise ValueError(
                "objective=given_step must have two networks, as a federated round gives, got "
                f"{len(given)}; take objective=gradient"
            )
        check_all_alike("objective", given[-2:], self.architecture, image_shape, classes)

    def begin(self, real: RealData, state: State) -> Pulling:  # noqa: ARG002
        """Returns the objective at work; it keeps nothing.

        Raises:
            ValueError: If the task gives fewer than two networks, or one of another architecture.
        """
        self.check_given(real.given, real.image_shape, real.num_classes)
        return _Matching(self, real)


class _Matching(Pulling):
    def __init__(self, objective: GivenStep, real: RealData) -> None:
        self.matching = objective.matching
        self.network = real.fresh(objective.architecture, "network of the step")
        self.weights, after = real.given[-2:]
        self.step_taken = {name: w - after[name] for name, w in self.weights.items()}

    def step(self, index: int, small: Learned) -> float:  # noqa: ARG002
        rows = torch.cat(small.by_class)
        batch = small.images(rows), small.targets(rows)
        matched = self.matching.matched(self.weights)
        slopes, pulled = traced_gradient(self.network, self.weights, batch, matched)
        loss, direction = self.matching.compared(slopes, self.step_taken)
        small.pull(rows, pulled(direction))
        return loss

    def state(self) -> State:
        return {}
