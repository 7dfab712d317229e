r"""Merged images (OLCGM): each stored image is a mixture of several real ones, not of free pixels.

The :math:`n` real images of a class are divided, in their order, into :math:`m` groups
:math:`G_j` whose sizes differ by one at most, and group :math:`j` becomes

.. math:: s_j = \sum_{i \in G_j} \frac{w_i}{\sum_{k \in G_j} w_k} \, x_i , \quad w_i \geq 0 ,

with equal weights at first. An objective, DC's distance of gradients between :math:`x` and
:math:`s`, moves the weights alone: one number an image, and what is mixed stays in the range of
pixels. Where :math:`m = n` the images are left as they are.

References:
    | Sample Condensation in Online Continual Learning
    | (Sangermano, Carta, Cossu and Bacciu, IJCNN 2022), https://arxiv.org/abs/2206.11849

Differences from the paper: groups of :math:`\lceil n / m \rceil` images or one fewer, where it
merges pairs, so that any number of images can be asked for. Weights start equal, where its code
draws them. Networks that match gradients start afresh, where it starts from the one that learns
the stream. Its code matches the mixtures of weights before they are scaled to a sum of one; here
those that are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import Condenser, State, Step, Task
from distill.coresets import Random
from distill.engine import Distillation
from distill.images import Normalisation
from distill.labels import HardLabels
from distill.objectives.base import Objective
from distill.optimisers import Optimiser
from distill.parameterisations.base import Budget, Parameterisation, Parameters, Shape, Source
from distill.synthetic import SyntheticSet

LEAST = 1e-6  # a weight at least, so that no group's sum is zero


@final
@dataclass(frozen=True)
class Merging(Condenser):
    """Images that are mixtures of groups of real ones.

    Attributes:
        objective: What the mixtures are asked for.
        optimiser: Moves the weights.
        iterations: Steps in all, >= 1.
    """

    objective: Objective
    optimiser: Optimiser
    iterations: int

    def __post_init__(self) -> None:
        whole("method.iterations", self.iterations, 1)

    @property
    def makes_pixels(self) -> bool:
        """True: weights and real images are needed no more once they are mixed."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        """Yields every optimiser step.

        Raises:
            ValueError: If a class has fewer real images than are wanted.
            FloatingPointError: If the run diverges.
        """
        weighed = Distillation(
            objective=self.objective,
            parameterisation=Parameterisation(_Groups.of(task)),
            labels=HardLabels(),
            start=Random(),
            optimiser=self.optimiser,
            iterations=self.iterations,
        )
        for step in weighed.steps(task, state):
            yield replace(step, result=partial(_mixed, step))


@final
@dataclass(frozen=True)
class _Groups(Source):
    """Real images that are recalled as one mixture for each group.

    Attributes:
        images: Normalised, ``(N, C, H, W)``.
        sizes: Images of each group, which stand together, int64 ``(M,)``.
    """

    images: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, task: Task) -> "_Groups":
        """Returns the groups of a task, as many of a class as images are wanted of it."""
        images, sizes = list[Tensor](), list[int]()
        for label in task.classes:
            own, groups = task.real.of_class(label), int(task.counts[label])
            if groups > len(own):
                raise ValueError(
                    f"ipc must be <= {len(own)}, the real images of class {label}, got {groups}"
                )
            images.append(own)
            sizes += map(len, own.tensor_split(groups))
        return cls(torch.cat(images), torch.tensor(sizes))

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def rows(self, budget: Budget, shape: Shape) -> Tensor:  # noqa: ARG002
        """Returns the mixtures that are wanted: only these are kept, as images."""
        return budget.counts

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns equal weights."""
        return {"weights": (1 / self.sizes).repeat_interleave(self.sizes).to(first)}

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the mixtures at ``index``."""
        weights, sizes = parameters["weights"], self.sizes.tolist()
        groups = zip(torch.split(weights, sizes), torch.split(self.images, sizes), strict=True)
        mixed = [torch.tensordot(w / w.sum(), images, 1) for w, images in groups]
        return torch.stack(mixed)[index.to(weights.device)]

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:  # noqa: ARG002
        """Keeps the weights from falling below zero."""
        with torch.no_grad():
            parameters["weights"].clamp_(min=LEAST)


def _mixed(step: Step) -> SyntheticSet:
    return replace(step.result(), code=None)
