r"""Weights that are held where they were, each as hard as it matters there.

A quadratic penalty :math:`\frac{s}{2} \sum_k \Omega_k (\theta_k - \tilde\theta_k)^2` of strength
:math:`s` holds the weights :math:`\theta_k` near :math:`\tilde\theta_k`, by their importances
:math:`\Omega_k`; what makes a weight important is the method's. Where :math:`s \Omega_k` exceeds
:math:`1 / \eta` at step size :math:`\eta`, it is :math:`1 / \eta`, which takes a weight back in one
step: more would throw it past, and beyond :math:`2 / \eta` ever farther.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, final

import torch
from torch import Tensor, nn

from fedcl.continual.base import State

WEIGHTS, IMPORTANCE = "weights of ", "importance of "


@final
@dataclass(frozen=True)
class Anchor:
    r"""A place in weight space, and how much each weight matters there.

    Attributes:
        weights: :math:`\tilde\theta`, by name.
        importance: :math:`\Omega`, by name, each of its weight's shape.
    """

    weights: Mapping[str, Tensor]
    importance: Mapping[str, Tensor]

    @classmethod
    def left_in(cls, state: State) -> Self | None:
        """Returns the anchor that :meth:`state` wrote, or None where nothing was left."""
        return cls(_named(WEIGHTS, state), _named(IMPORTANCE, state)) if state else None

    def state(self) -> State:
        """Returns it as tensors by name: two copies of the network."""
        weights = {WEIGHTS + name: tensor for name, tensor in self.weights.items()}
        return weights | {IMPORTANCE + name: tensor for name, tensor in self.importance.items()}

    @torch.no_grad()
    def pull_(self, network: nn.Module, strength: float, rate: float) -> None:
        r"""Adds the penalty's gradient to the network's gradients.

        Args:
            network: Has gradients.
            strength: :math:`s`.
            rate: :math:`\eta`, the step size.
        """
        for name, weights in network.named_parameters():
            if weights.grad is not None:
                stiffness = (strength * self.importance[name]).clamp(max=1 / rate)
                weights.grad.add_(stiffness * (weights - self.weights[name]))


def _named(prefix: str, state: State) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
