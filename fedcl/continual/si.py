r"""Synaptic intelligence: a weight matters by what its moves have taken off the loss.

While an experience is learnt, step :math:`n` moves weight :math:`k` by :math:`\Delta\theta_k(n)`
where the loss has gradient :math:`g_k(n)`. With :math:`\Delta_k` the whole move of the
experience and a damping :math:`\xi`, its end adds

.. math:: \Omega_k \leftarrow \Omega_k + \frac{\omega_k}{\Delta_k^2 + \xi},
    \qquad \omega_k = -\sum_n g_k(n) \, \Delta\theta_k(n),

and the loss of the next one is the cross-entropy plus :math:`c \sum_k \Omega_k
(\theta_k - \tilde\theta_k)^2`, where :math:`\tilde\theta` are the weights at the end of the last.

References:
    | Continual Learning Through Synaptic Intelligence (Zenke, Poole and Ganguli, ICML 2017)
    | https://arxiv.org/abs/1703.04200

Differences from the paper: :math:`\Omega` is never below zero, as in its authors' code; steps on
noisy batches would else push some weights away. As there, :math:`g` is of the cross-entropy
alone. No weight is held more firmly than a step allows (:mod:`fedcl.continual.anchor`).
Avalanche 0.6 takes the gradient of the penalty too, and caps :math:`\Omega` at 0.001.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from distill.checks import at_least, positive
from distill.images import LabelledImages
from distill.networks import Network
from distill.pullback import weights_of
from fedcl.continual.anchor import Anchor
from fedcl.continual.base import Batch, Lesson, Memoryless, Moment, State, plain


@final
@dataclass(frozen=True)
class SynapticIntelligence(Memoryless):
    r"""Synaptic intelligence. While an experience is learnt, four more copies exist.

    Attributes:
        strength: :math:`c`, >= 0.
        damping: :math:`\xi`, > 0.
    """

    strength: float
    damping: float

    def __post_init__(self) -> None:
        at_least("continual.strength", self.strength, 0)
        positive("continual.damping", self.damping)

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training, its path added up, and held by what is left of earlier paths."""
        anchor, path = Anchor.left_in(moment.left), Path(moment.network)

        def adjust(network: Network, _: Batch) -> None:
            path.before_step(network)
            if anchor is not None:
                anchor.pull_(network, 2 * self.strength, moment.recipe.learning_rate)

        def leave(network: Network, *_: LabelledImages) -> State:
            importance = path.importance(network, self.damping)
            if anchor is not None:
                importance = {k: anchor.importance[k] + new for k, new in importance.items()}
            bounded = {name: tensor.clamp(min=0) for name, tensor in importance.items()}
            return Anchor(weights_of(network), bounded).state()

        return Lesson(plain, adjust=adjust, stepped=path.after_step, leave=leave)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


@final
class Path:
    r"""The path integral of one experience.

    Attributes:
        start: The weights at its beginning, by name.
        integral: :math:`\omega` so far, by name.
    """

    def __init__(self, network: nn.Module) -> None:
        self.start = weights_of(network)
        self.integral = {name: torch.zeros_like(tensor) for name, tensor in self.start.items()}
        self._weights, self._gradients = dict[str, Tensor](), dict[str, Tensor]()

    def before_step(self, network: nn.Module) -> None:
        """Takes down weights and gradients."""
        self._weights = weights_of(network)
        self._gradients = {
            name: weights.grad.clone()
            for name, weights in network.named_parameters()
            if weights.grad is not None
        }

    @torch.no_grad()
    def after_step(self, network: nn.Module) -> None:
        """Adds what the step took off the loss, to first order."""
        weights = dict(network.named_parameters())
        for name, gradient in self._gradients.items():
            self.integral[name] -= gradient * (weights[name] - self._weights[name])

    @torch.no_grad()
    def importance(self, network: nn.Module, damping: float) -> dict[str, Tensor]:
        """Returns the integral over the squared move, damped, by name."""
        return {
            name: self.integral[name] / ((weights - self.start[name]).square() + damping)
            for name, weights in network.named_parameters()
        }
