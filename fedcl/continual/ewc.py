r"""Elastic weight consolidation: weights that earlier tasks need are held by springs.

After experience :math:`t`, with weights :math:`\theta_t`, the Fisher information of weight
:math:`k` over :math:`N` of its images :math:`x_i` is

.. math:: F_{t,k} = \frac{1}{N} \sum_{i=1}^{N} \sum_c p(c \mid x_i; \theta_t) \Big(
    \frac{\partial}{\partial \theta_k} \log p(c \mid x_i; \theta_t) \Big)^2,

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
:mod:`fedcl.continual.anchor`. The sum over the classes :math:`c` takes one backward pass, by random
signs :math:`\epsilon_c`: with :math:`p` the chances of an image and :math:`e_c` unit vectors, the
gradient of :math:`\langle z, v \rangle` by its logits' :math:`z` direction :math:`v = \sum_c
\epsilon_c \sqrt{p_c} (e_c - p)` has the wanted square on average. Drawn labels have it too, but a
network that is sure of itself draws the ones that matter rarely; the true labels, which many codes
take, give the empirical Fisher information, another matrix. The online penalty weighs by
:math:`\Omega_t` itself, and not by :math:`\gamma \Omega_t`, as other codes do, too: a strength
:math:`1 / \gamma` times theirs. Each image's gradient is squared by
itself; Avalanche 0.6 squares the mean gradient of a batch, which depends on the batch's size.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from distill.checks import at_least, fraction, whole
from distill.images import LabelledImages
from distill.networks import Network
from distill.pullback import Weights, weights_of
from fedcl.continual.anchor import Anchor
from fedcl.continual.base import Batch, Lesson, Memoryless, Moment, State, plain

ALIVE = 2**24  # numbers in the gradients of the images that are taken at once: 64 MiB


@final
@dataclass(frozen=True)
class EWC(Memoryless):
    r"""Elastic weight consolidation.

    Attributes:
        strength: :math:`\lambda`, >= 0.
        decay: :math:`\gamma` of online EWC, in [0, 1]; None: a parabola for each experience.
        images: :math:`N`, >= 1: how many of an experience's images the Fisher information is
            over, drawn without replacement; all, where it has fewer.
    """

    strength: float
    decay: float | None
    images: int

    def __post_init__(self) -> None:
        at_least("continual.strength", self.strength, 0)
        if self.decay is not None:
            fraction("continual.decay", self.decay)
        whole("continual.images", self.images, 1)

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training on springs."""
        anchor = Anchor.left_in(moment.left)

        def adjust(network: Network, _: Batch) -> None:
            if anchor is not None:
                anchor.pull_(network, self.strength, moment.recipe.learning_rate)

        def leave(network: Network, images: LabelledImages, _: LabelledImages) -> State:
            drawn = images.rows(torch.randperm(len(images), generator=moment.rng)[: self.images])
            importance = fisher(network, drawn, moment.answers, moment.rng)
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
    """Returns an unbiased estimate of the Fisher information's diagonal, by names of weights.

    Args:
        network: Maps images to logits; images must not meet in it, and it is left in evaluation.
        data: Normalised images, at least one.
        answers: For each class, the classes that its images may be told to be, bool
            ``(num_classes, num_classes)``; None: all.
        rng: Draws the signs.
    """
    weights, network = weights_of(network), network.eval()

    def along(weights: Weights, image: Tensor, direction: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, dict(weights), (image.unsqueeze(0),))
        return logits[0] @ direction

    each = vmap(grad(along), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    chunk = max(1, ALIVE // sum(tensor.numel() for tensor in weights.values()))
    for rows in torch.split(torch.arange(len(data)), chunk):
        images = data.images[rows]
        with torch.no_grad():
            logits = network(images)
        if answers is not None:
            logits = logits.masked_fill(~answers[data.labels[rows]], -torch.inf)
        directions = signed(logits.softmax(1), rng)
        for name, gradients in each(weights, images, directions).items():
            total[name] += gradients.square().sum(0)
    return {name: tensor / len(data) for name, tensor in total.items()}


def signed(chances: Tensor, rng: torch.Generator) -> Tensor:
    """Returns the directions :math:`v` of chances ``(N, num_classes)``, of their shape."""
    signs = 2 * torch.randint(0, 2, chances.shape, generator=rng).to(chances) - 1
    roots = signs * chances.sqrt()
    return roots - roots.sum(1, keepdim=True) * chances
