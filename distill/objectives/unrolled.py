r"""Unrolling: train a network on the set for a while, and ask how well it ended.

From weights :math:`\theta_0`, :math:`T` steps of momentum :math:`\mu` and size
:math:`\alpha` on the synthetic images :math:`x_t`, targets :math:`y_t` of each step,

.. math:: m_t = \mu m_{t-1} + \nabla_\theta \ell(\theta_t; x_t, y_t), \qquad
    \theta_{t+1} = \theta_t - \alpha_t m_t,

end in :math:`\theta_T`, where a terminal gives :math:`L` and
:math:`p = \partial L / \partial \theta_T`. The gradient comes from the reverse recursion,
from :math:`u = 0` and :math:`t = T - 1` down to 0,

.. math:: \frac{\partial L}{\partial \alpha_t} = -\langle p, m_t \rangle, \quad
    u \leftarrow \mu u - \alpha_t p, \quad
    \Big(\frac{\partial L}{\partial x_t}, \frac{\partial L}{\partial y_t}\Big)
      = \partial_{x, y} \langle \nabla_\theta \ell, u \rangle, \quad
    p \leftarrow p + \partial_\theta \langle \nabla_\theta \ell, u \rangle,

one pullback a step. It is exact, and keeps the weights of the steps and the graph of one
batch, where back-propagation through the whole training keeps the graphs of all.

With a window of :math:`M` steps the training ends at a drawn :math:`N`, uniform in
:math:`M, \dots, T`, and the recursion stops after the last :math:`M` steps (RaT-BPTT): the set
learns to serve late in training too, at the cost of a short one. Of the steps a share can be left
out, drawn anew each time (DOSFL's random masking), so that none relies on all others.

References:
    | Dataset Distillation (Wang et al., 2018), https://arxiv.org/abs/1811.10959
    | Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks
    | (Deng and Russakovsky, NeurIPS 2022), https://arxiv.org/abs/2206.02916
    | Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory (Cui et al., ICML
    | 2023), https://arxiv.org/abs/2211.10586: ``exact=false`` leaves out the last term, as
    | TESLA does, which treats the weights of earlier steps as constants
    | Embarrassingly Simple Dataset Distillation (Feng, Vedantam and Kempe, ICLR 2024),
    | https://arxiv.org/abs/2311.07025: ``window``
    | Distilled One-Shot Federated Learning (Zhou, Pu, Ma, Li and Wu, 2020),
    | https://arxiv.org/abs/2009.07999: ``dropped``

Differences from the papers: TESLA is meant without momentum; its released code also loses a
factor of two, which is right here. RTP applies one drawn transform in all steps; here every
step draws its own. DD halves the set's step size every 40 epochs; here it has no schedule.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.checks import below_one, positive, whole
from distill.condenser import State
from distill.labels import Labels, LearnedLabels
from distill.learned import Learned
from distill.networks import Network
from distill.objectives.base import Objective, Pulling
from distill.pullback import Through, Weights, pullback, scaled, whole_gradient
from distill.real import RealData
from distill.rng import derive


class Terminal(ABC):
    """Where training starts, and what is asked of its end. Subclasses are final dataclasses."""

    @abstractmethod
    def begin(self, real: RealData, state: State) -> "Ending":
        """Returns the terminal at work; ``state`` is what it left earlier, or empty."""


class Ending(ABC):
    """A terminal at work."""

    @abstractmethod
    def start(self, index: int) -> tuple[Network, Weights]:
        r"""Returns the architecture and :math:`\theta_0` of step ``index``."""

    @abstractmethod
    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        r"""Returns the loss at :math:`\theta_T`, and its gradient p by the weights."""

    @abstractmethod
    def state(self) -> State:
        """Returns what :meth:`Terminal.begin` needs to go on from here."""


@final
@dataclass(frozen=True)
class Unrolled(Objective):
    r"""Training that is differentiated through.

    Attributes:
        terminal: Start and end.
        inner_steps: T, >= 1.
        step_size: :math:`\alpha`, > 0, where the set learns none.
        momentum: :math:`\mu`, in [0, 1).
        batch: Synthetic images of each class an inner step, >= 1; None: all.
        ordered: Whether inner step t takes the images in their order, as DD ties them to it;
            if not, they are drawn.
        augmentation: Drawn per image, one family an inner step.
        exact: Whether the weights of earlier steps count; false: TESLA's approximation.
        chunk: Images whose graph is alive at once; None: all of an inner step.
        window: M, steps differentiated through, in 1..T, of a training whose length is drawn;
            None: all T of them.
        dropped: Share of the steps that are left out, drawn each time, in [0, 1).
    """

    terminal: Terminal
    inner_steps: int
    step_size: float
    momentum: float
    batch: int | None
    ordered: bool
    augmentation: Augmentation
    exact: bool
    chunk: int | None
    window: int | None
    dropped: float = 0.0

    def __post_init__(self) -> None:
        whole("objective.inner_steps", self.inner_steps, 1)
        positive("objective.step_size", self.step_size)
        below_one("objective.momentum", self.momentum)
        below_one("objective.dropped", self.dropped)
        for name in ("batch", "chunk", "window"):
            if getattr(self, name) is not None:
                whole(f"objective.{name}", getattr(self, name), 1)
        if self.window is not None and self.window > self.inner_steps:
            raise ValueError(
                f"objective.window must be <= objective.inner_steps={self.inner_steps}, "
                f"got {self.window}"
            )
        if not self.exact and self.momentum > 0:
            raise ValueError(
                f"objective.momentum must be 0 with objective.exact=false, got {self.momentum}"
            )

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Takes classes and distributions, which cross-entropy can train on.

        Raises:
            ValueError: If labels are free numbers, or there are more step sizes than steps.
        """
        if isinstance(labels, LearnedLabels):
            raise ValueError("labels must be hard or soft where training is unrolled, got learned")
        if len(rates) > self.inner_steps:
            raise ValueError(
                f"method.rate_count must be <= objective.inner_steps={self.inner_steps}, "
                f"got {len(rates)}"
            )

    def begin(self, real: RealData, state: State) -> Pulling:
        """Returns the objective at work."""
        return _Unrolling(self, real, self.terminal.begin(real, state))


@dataclass(frozen=True)
class _Taken:
    """An inner step that was taken: what its reversal needs."""

    index: int
    weights: Weights
    moment: Weights
    rows: Tensor
    leaf: Tensor
    images: Tensor
    targets: Tensor


class _Unrolling(Pulling):
    def __init__(self, objective: Unrolled, real: RealData, ending: Ending) -> None:
        self.objective, self.real, self.ending = objective, real, ending

    def step(self, index: int, small: Learned) -> float:
        rng = derive(self.real.seed, "step", index)
        network, weights = self.ending.start(index)
        taken = deque[_Taken](maxlen=self.objective.window)
        for inner in self._kept(self._length(rng), rng):
            taken.append(self._inner_step(small, network, weights, (inner, taken, rng)))
            weights = _moved(weights, taken[-1].moment, -self._rate(small, inner))
        loss, slope = self.ending.end(index, weights)
        self._reverse(small, network, taken, slope)
        return loss

    def _length(self, rng: torch.Generator) -> int:
        most, window = self.objective.inner_steps, self.objective.window
        if window is None:
            return most
        return int(torch.randint(window, most + 1, (1,), generator=rng).item())

    def _kept(self, length: int, rng: torch.Generator) -> Sequence[int]:
        dropped = int(self.objective.dropped * length)
        if not dropped:
            return range(length)
        return torch.randperm(length, generator=rng)[dropped:].sort().values.tolist()

    def _inner_step(
        self,
        small: Learned,
        network: Network,
        weights: Weights,
        so_far: tuple[int, deque[_Taken], torch.Generator],
    ) -> _Taken:
        inner, taken, rng = so_far
        rows = self._rows(small, inner, rng)
        leaf = small.images(rows).requires_grad_()
        _, height, width = self.real.image_shape
        draw = self.objective.augmentation.draw(len(rows), (height, width), rng)
        images, targets = draw(leaf), small.targets(rows)
        batch = (images.detach(), targets)
        slopes = whole_gradient(network, weights, batch, self.objective.chunk)
        mu = self.objective.momentum
        moment = _moved(slopes, taken[-1].moment, mu) if taken and mu else slopes
        return _Taken(inner, weights, moment, rows, leaf, images, targets)

    def _rate(self, small: Learned, inner: int) -> float:
        rates = small.rates
        return rates[inner % len(rates)] if rates else self.objective.step_size

    def _rows(self, small: Learned, inner: int, rng: torch.Generator) -> Tensor:
        batch = self.objective.batch
        if batch is None or not self.objective.ordered:
            return torch.cat(small.draw(batch, rng))
        return in_order(small.by_class, inner, batch)

    def _reverse(
        self, small: Learned, network: Network, taken: deque[_Taken], slope: Weights
    ) -> None:
        through = Through(self.objective.exact, self.objective.chunk)
        direction = scaled(slope, 0.0)
        for step in reversed(taken):
            small.pull_rate(step.index, -_product(slope, step.moment))
            direction = _moved(
                scaled(direction, self.objective.momentum), slope, -self._rate(small, step.index)
            )
            batch = (step.images.detach(), step.targets)
            pulled = pullback(network, step.weights, batch, direction, through)
            (by_images,) = torch.autograd.grad(step.images, step.leaf, pulled.images)
            small.pull(step.rows, by_images, pulled.targets)
            if self.objective.exact:
                slope = _moved(slope, pulled.weights, 1.0)

    def state(self) -> State:
        return self.ending.state()


def in_order(by_class: Sequence[Tensor], step: int, batch: int) -> Tensor:
    """Returns the rows of an ordered step, ``batch`` of each class, from the first on again.

    Args:
        by_class: The rows of each class, in their order.
        step: The number of the step.
        batch: Rows of each class a step.
    """
    places = torch.arange(step * batch, (step + 1) * batch)
    return torch.cat([rows[places % len(rows)] for rows in by_class])


def _moved(weights: Weights, by: Weights, factor: float) -> dict[str, Tensor]:
    return {name: weight + factor * by[name] for name, weight in weights.items()}


def _product(left: Weights, right: Weights) -> float:
    return sum(float((weight * right[name]).sum()) for name, weight in left.items())
