r"""Elastic weight consolidation: weights that earlier tasks need are held by springs.

After experience :math:`t`, with weights :math:`\theta_t`, the Fisher information of weight
:math:`k` over its :math:`N` images :math:`x_i` is

.. math:: F_{t,k} = \frac{1}{N} \sum_{i=1}^{N} \Big(
    \frac{\partial}{\partial \theta_k} \log p(y_i \mid x_i; \theta_t) \Big)^2,
    \qquad y_i \sim p(\cdot \mid x_i; \theta_t),

and the loss of the next one is the cross-entropy plus :math:`\frac{\lambda}{2} \sum_t \sum_k
F_{t,k} (\theta_k - \theta_{t,k})^2`. A sum of parabolas is a parabola, of the summed Fisher
information around the mean of the :math:`\theta_t` that it weighs, so that two copies of the
network are kept, however many experiences there were. Online EWC has one parabola from the
start: around the last :math:`\theta_t`, with importances
:math:`\Omega_t = \gamma \Omega_{t-1} + F_t`.

References:
    | Overcoming catastrophic forgetting in neural networks (Kirkpatrick et al., PNAS 2017)
    | https://arxiv.org/abs/1612.00796
    | Progress & Compress (Schwarz et al., ICML 2018): online EWC
    | https://arxiv.org/abs/1805.06370

Differences from the papers: no spring is stiffer than a step allows, see
:mod:`fedcl.continual.anchor`. The labels :math:`y_i` are drawn from the network's answers, which
is the Fisher information of the derivation; many codes take the true ones (the empirical Fisher).
Each image's gradient is squared by itself; Avalanche 0.6 squares the mean gradient of a batch,
which is smaller by up to the size of the batch and depends on it.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, fraction
from distill.images import LabelledImages
from distill.networks import Network
from distill.pullback import Weights, weights_of
from fedcl.continual.anchor import Anchor
from fedcl.continual.base import (
    Batch,
    ContinualMethod,
    Lesson,
    Moment,
    Replayed,
    Source,
    State,
    plain,
)

ALIVE = 2**24  # numbers in the gradients of the images that are taken at once: 64 MiB


@final
@dataclass(frozen=True)
class EWC(ContinualMethod):
    r"""Elastic weight consolidation.

    Attributes:
        strength: :math:`\lambda`, >= 0.
        decay: :math:`\gamma` of online EWC, in [0, 1]; None: a parabola for each experience.
    """

    strength: float
    decay: float | None

    def __post_init__(self) -> None:
        at_least("continual.strength", self.strength, 0)
        if self.decay is not None:
            fraction("continual.decay", self.decay)

    @property
    def learns(self) -> Source:
        """The experience alone."""
        return "experience"

    @property
    def replayed(self) -> Replayed | None:
        """No images."""
        return None

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training on springs."""
        anchor = Anchor.left_in(moment.left)

        def adjust(network: Network, _: Batch) -> None:
            if anchor is not None:
                anchor.pull_(network, self.strength, moment.recipe.learning_rate)

        def leave(network: Network, images: LabelledImages, _: LabelledImages) -> State:
            importance = fisher(network, images, moment.answers, moment.rng)
            return self._merged(anchor, Anchor(weights_of(network), importance)).state()

        return Lesson(plain, adjust=adjust, leave=leave)

    def _merged(self, old: Anchor | None, new: Anchor) -> Anchor:
        if old is None:
            return new
        decay = 1.0 if self.decay is None else self.decay
        total = {k: decay * old.importance[k] + F for k, F in new.importance.items()}
        if self.decay is not None:
            return Anchor(new.weights, total)
        tiny = torch.finfo(torch.float32).tiny  # a weight that never mattered stays
        shares = {k: new.importance[k] / total[k].clamp(min=tiny) for k in total}
        mean = {k: torch.lerp(old.weights[k], new.weights[k], shares[k]) for k in total}
        return Anchor(mean, total)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


def fisher(
    network: nn.Module, data: LabelledImages, answers: Tensor | None, rng: torch.Generator
) -> dict[str, Tensor]:
    """Returns the diagonal of the Fisher information, by the names of the weights.

    Args:
        network: Maps images to logits; images must not meet in it, and it is left in evaluation.
        data: Normalised images, at least one.
        answers: For each class, the classes that its images may be told to be, bool
            ``(num_classes, num_classes)``; None: all.
        rng: Draws a label for each image from the network's answers.
    """
    weights, network = weights_of(network), network.eval()
    everything = torch.ones(data.num_classes, data.num_classes, dtype=torch.bool)
    allowed = (everything if answers is None else answers).to(data.labels.device)[data.labels]

    def surprise(weights: Weights, image: Tensor, label: Tensor, allowed: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, dict(weights), (image.unsqueeze(0),))
        return F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), label.unsqueeze(0))

    each = vmap(grad(surprise), in_dims=(None, 0, 0, 0))
    total = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    chunk = max(1, ALIVE // sum(tensor.numel() for tensor in weights.values()))
    for rows in torch.split(torch.arange(len(data)), chunk):
        images, permitted = data.images[rows], allowed[rows]
        with torch.no_grad():
            chances = network(images).masked_fill(~permitted, -torch.inf).softmax(1).cpu()
        labels = torch.multinomial(chances, 1, generator=rng).squeeze(1).to(images.device)
        for name, gradients in each(weights, images, labels, permitted).items():
            total[name] += gradients.square().sum(0)
    return {name: tensor / len(data) for name, tensor in total.items()}
