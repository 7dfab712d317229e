r"""Distribution matching to class means that somebody else took (CollabDM).

Networks :math:`\psi_1, \dots, \psi_T` are known to both sides by a seed, and the means
:math:`\mu_{tc}` of the real images' features, but no image. Step i takes t = i modulo T, and

.. math:: L = \sum_c \Big\| \mu_{tc} - \frac{1}{M_c} \sum_j \psi_t(s_{cj}) \Big\|_2^2 .

References:
    | One-Shot Collaborative Data Distillation (Holland, Thapa, Siddiqui, Shao and Camtepe, ECAI
    | 2024), https://arxiv.org/abs/2408.02266

Differences from the paper: the networks are few, and each serves many steps; no augmentation, as
the means are of the images as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.labels import HardLabels, Labels
from distill.learned import Learned
from distill.networks import Architecture, ImageShape, Network, fresh
from distill.objectives.base import Objective, Pulling
from distill.objectives.distribution import class_means, embedded
from distill.real import ClassBatch, RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class SharedNetworks:
    """Networks that all who know the seed can make.

    Attributes:
        architecture: What they are.
        count: T, networks, >= 1.
        seed: Names them.
    """

    architecture: Architecture
    count: int
    seed: int

    def __post_init__(self) -> None:
        whole("networks", self.count, 1)

    def network(self, number: int, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns network ``number``, in [0, T)."""
        rng = derive(self.seed, "shared network", number)
        return fresh(self.architecture, image_shape, num_classes, rng).requires_grad_(False)


@final
@dataclass(frozen=True)
class GivenMeans(Objective):
    r"""The DM loss against given means.

    Attributes:
        networks: :math:`\psi_t`.
        means: :math:`\mu_{tc}`, float32 ``(T, K, D)``, of the set's classes in ascending order.
    """

    networks: SharedNetworks
    means: Tensor

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Refuses anything but images to learn.

        Raises:
            ValueError: If labels or a step size are to be learned.
        """
        if not isinstance(labels, HardLabels) or rates:
            raise ValueError(
                "labels must be hard and method.rate null where means of images are matched"
            )

    def begin(self, real: RealData, state: State) -> Pulling:  # noqa: ARG002
        """Returns the objective at work; it keeps nothing."""
        return _Matching(self, real)


class _Matching(Pulling):
    def __init__(self, objective: GivenMeans, real: RealData) -> None:
        self.objective, networks = objective, objective.networks
        self.networks = [
            networks.network(t, real.image_shape, real.num_classes).to(real.device)
            for t in range(networks.count)
        ]

    def step(self, index: int, small: Learned) -> float:
        t, rows = index % len(self.networks), torch.cat(small.by_class)
        images = small.images(rows).requires_grad_()
        features = self.networks[t].embed(images)
        gap = class_means(features, _grouped(images, small.by_class)) - self.objective.means[t]
        loss = gap.square().sum()
        (pulled,) = torch.autograd.grad(loss, images)
        small.pull(rows, pulled)
        return loss.item()

    def state(self) -> State:
        return {}


def means_of(networks: SharedNetworks, images: Tensor, groups: Tensor, num_classes: int) -> Tensor:
    """Returns the class means of real images under every network, float32 ``(T, K, D)``.

    Args:
        networks: All of them.
        images: Normalised, ``(N, C, H, W)``.
        groups: For each image the row of its class, int64 in [0, K), ``(N,)``, each with one.
        num_classes: Of the task, for the networks' classifiers, which nobody reads.
    """
    batch = ClassBatch(images, groups, torch.arange(int(groups.max()) + 1))
    shape: ImageShape = (images.shape[1], images.shape[2], images.shape[3])
    numbers = range(networks.count)
    made = (networks.network(t, shape, num_classes).to(images.device) for t in numbers)
    return torch.stack([class_means(embedded(network, images), batch) for network in made])


def _grouped(images: Tensor, by_class: Sequence[Tensor]) -> ClassBatch:
    sizes = torch.tensor([len(rows) for rows in by_class])
    groups = torch.arange(len(by_class)).repeat_interleave(sizes)
    return ClassBatch(images, groups.to(images.device), torch.arange(len(by_class)))
