r"""Statistic matching: make networks see the same in synthetic and in real images.

Each step takes one network, draws one siamese transform :math:`A_{w_c}` for each class, and
shows the network :math:`A_{w_c}(x)` of both sides:

    1. take the network of this step;
    2. draw real images, synthetic images and the transform of each class;
    3. cut the graph at the transformed synthetic images and ask the statistic for its
       gradient on them;
    4. pull it back through the transform to the images, and on to the set.

The statistic alone tells one method from another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import final

import torch
from torch import Tensor

from distill.augment import Augmentation, Draw, each
from distill.checks import whole
from distill.condenser import State
from distill.labels import HardLabels, Labels
from distill.learned import Learned, drawn
from distill.network_sources import Networks, NetworkSource
from distill.networks import Network
from distill.objectives.base import Objective, Pulling
from distill.real import ClassBatch, RealData
from distill.rng import derive


class Statistic(ABC):
    """What is compared, and how. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> tuple[float, Tensor]:
        """Returns the loss and its gradient on ``synthetic.images``.

        Args:
            network: Sees the images; its parameters take no gradient.
            real: Augmented real images.
            synthetic: Augmented synthetic images of the same classes in the same rows.
            rng: For statistics that draw.
        """

    def check(self, network: Network) -> None:  # noqa: B027  most see any network
        """Refuses a network in which there is nothing to compare.

        Raises:
            ValueError: If so.
        """

    def about(self, real: RealData) -> "Pull":  # noqa: ARG002
        """Returns :meth:`pull` for one task, of which a statistic may see more than its batches."""
        return self.pull


class Separable(Statistic):
    """A statistic that is a sum over classes, each of its own images alone, and draws nothing.

    So classes of several tasks can be shown to a network at once, and each gets the gradient
    that it would get alone.
    """

    @abstractmethod
    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        """Returns the loss of each class, ``(K,)``, differentiable by the synthetic images."""

    def pull(
        self,
        network: Network,
        real: ClassBatch,
        synthetic: ClassBatch,
        rng: torch.Generator,  # noqa: ARG002
    ) -> tuple[float, Tensor]:
        """Returns the sum of the losses and its gradient on the synthetic images.

        Raises:
            ValueError: If the two batches differ in classes or in image shape.
        """
        check_same_classes(real, synthetic)
        return differentiated(self.losses(network, real, synthetic).sum(), synthetic)


Pull = Callable[[Network, ClassBatch, ClassBatch, torch.Generator], tuple[float, Tensor]]


@final
@dataclass(frozen=True)
class Matching(Objective):
    """A statistic, the networks that take it, and the images that it is taken of.

    Attributes:
        statistic: What is compared.
        networks: The networks that see the images.
        augmentation: Drawn once per class and step, shared by real and synthetic images.
        real_batch: Real images of each class a step, >= 1; all, where a class has fewer.
        synthetic_batch: Synthetic images of each class a step, >= 1; None: all.
    """

    statistic: Statistic
    networks: NetworkSource
    augmentation: Augmentation
    real_batch: int
    synthetic_batch: int | None

    def __post_init__(self) -> None:
        whole("objective.real_batch", self.real_batch, 1)
        if self.synthetic_batch is not None:
            whole("objective.synthetic_batch", self.synthetic_batch, 1)

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        """Refuses anything but images to learn: a statistic sees nothing else.

        Raises:
            ValueError: If labels or a step size are to be learned.
        """
        if not isinstance(labels, HardLabels):
            raise ValueError("labels must be hard where a statistic of images is matched")
        if rates:
            raise ValueError(
                f"method.rate must be null where no training is unrolled, got {rates[0]}"
            )

    def begin(self, real: RealData, state: State) -> Pulling:
        """Returns the objective at work."""
        return self.pulling([real], self.networks.begin(real, state), self.statistic.about(real))

    def pulling(self, reals: Sequence[RealData], networks: Networks, pull: Pull) -> Pulling:
        """Returns the objective at work on one task or several, whose classes are in a row.

        Args:
            reals: The real images of each task, whose random streams are its own.
            networks: Those of all tasks.
            pull: The statistic, of the classes of all tasks.
        """
        return _Matching(self, reals, networks, pull)


class _Matching(Pulling):
    def __init__(
        self, objective: Matching, reals: Sequence[RealData], networks: Networks, pull: Pull
    ) -> None:
        self.objective, self.reals, self.networks, self.pull = objective, reals, networks, pull

    def step(self, index: int, small: Learned) -> float:
        network = self.networks.take(index, small)
        rngs = [derive(real.seed, "step", index) for real in self.reals]
        draws, real = self._draw_real(rngs)
        chosen = self._draw_synthetic(small, rngs)
        rows = torch.cat(chosen)
        images = small.images(rows).requires_grad_()
        synthetic = _transformed(_grouped(images, chosen, real.labels), draws)
        leaf = synthetic.images.detach().requires_grad_()
        seen = ClassBatch(leaf, synthetic.groups, synthetic.labels)
        loss, cotangent = self.pull(network, _transformed(real, draws), seen, rngs[0])
        (pulled,) = torch.autograd.grad(synthetic.images, images, cotangent)
        small.pull(rows, pulled)
        return loss

    def _draw_real(self, rngs: Sequence[torch.Generator]) -> tuple[list[Draw], ClassBatch]:
        """Returns a transform for each class, and real images of each."""
        draws, batches = list[Draw](), []
        for real, rng in zip(self.reals, rngs, strict=True):
            size, augmentation = real.image_shape[1:], self.objective.augmentation
            draws += [augmentation.draw(1, size, rng) for _ in real.classes]
            batches.append(real.batch(self.objective.real_batch, rng))
        return draws, ClassBatch.joined(batches)

    def _draw_synthetic(self, small: Learned, rngs: Sequence[torch.Generator]) -> list[Tensor]:
        """Returns the rows of some synthetic images of each class."""
        classes, chosen = iter(small.by_class), list[Tensor]()
        for real, rng in zip(self.reals, rngs, strict=True):
            own = list(islice(classes, len(real.classes)))
            chosen += drawn(own, self.objective.synthetic_batch, rng)
        return chosen

    def state(self) -> State:
        return self.networks.state()


def _grouped(images: Tensor, chosen: list[Tensor], labels: Tensor) -> ClassBatch:
    sizes = torch.tensor([len(rows) for rows in chosen])
    groups = torch.arange(len(chosen)).repeat_interleave(sizes)
    return ClassBatch(images, groups.to(labels.device), labels)


def _transformed(batch: ClassBatch, draws: list[Draw]) -> ClassBatch:
    return ClassBatch(each(draws, batch.groups, batch.images), batch.groups, batch.labels)


def differentiated(loss: Tensor, synthetic: ClassBatch) -> tuple[float, Tensor]:
    """Returns a loss as a number, and its gradient on the synthetic images."""
    (gradient,) = torch.autograd.grad(loss, synthetic.images)
    return loss.item(), gradient


def check_same_classes(real: ClassBatch, synthetic: ClassBatch) -> None:
    """Refuses batches of different classes or image shapes.

    Raises:
        ValueError: If they differ.
    """
    if (
        not real.labels.equal(synthetic.labels)
        or real.images.shape[1:] != synthetic.images.shape[1:]
    ):
        raise ValueError(
            "real and synthetic must be of the same classes and image shape, got "
            f"real {real.labels.tolist()} x {tuple(real.images.shape[1:])}, "
            f"synthetic {synthetic.labels.tolist()} x {tuple(synthetic.images.shape[1:])}"
        )
