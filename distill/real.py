"""The real images that an objective may look at, class by class."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar, cast, final

import torch
from torch import Tensor

from distill.condenser import Task
from distill.images import LabelledImages
from distill.networks import Architecture, Network, fresh
from distill.rng import derive

T = TypeVar("T")


@final
@dataclass(frozen=True)
class ClassBatch:
    """Images of some classes, any number of each.

    Attributes:
        images: Normalised, ``(N, C, H, W)``.
        groups: For each image the row of its class in the batch, int64 in [0, K), ``(N,)``.
        labels: The class of each row, int64, ``(K,)``.
    """

    images: Tensor
    groups: Tensor
    labels: Tensor

    @classmethod
    def joined(cls, batches: Sequence["ClassBatch"]) -> "ClassBatch":
        """Returns the classes of all batches, in the order given, each a class of its own."""
        if len(batches) == 1:
            return batches[0]
        firsts = accumulate((batch.classes for batch in batches), initial=0)
        groups = [batch.groups + first for batch, first in zip(batches, firsts, strict=False)]
        images = torch.cat([batch.images for batch in batches])
        labels = torch.cat([batch.labels for batch in batches])
        return cls(images, torch.cat(groups), labels)

    @property
    def classes(self) -> int:
        """K, the classes in the batch."""
        return len(self.labels)

    @property
    def targets(self) -> Tensor:
        """The class of each image, int64 ``(N,)``."""
        return self.labels[self.groups]

    def of_group(self, group: int) -> tuple[Tensor, Tensor]:
        """Returns the images and the classes of one row of ``labels``."""
        chosen = self.groups == group
        return self.images[chosen], self.targets[chosen]


@final
class RealData:
    """A task's real images, ready to be drawn from."""

    def __init__(self, task: Task) -> None:
        self.seed, self.classes = task.seed, task.classes
        self.networks = task.seed if task.networks is None else task.networks
        self.image_shape, self.num_classes = task.real.image_shape, task.real.num_classes
        self.normalisation, self._real = task.normalisation, task.real
        self.given = [{n: w.to(self.device) for n, w in weights.items()} for weights in task.given]
        self._rows = [(task.real.labels == label).nonzero().flatten() for label in task.classes]
        self._made = list[tuple[object, object]]()

    @property
    def data(self) -> LabelledImages:
        """All images, of classes outside the task too."""
        return self._real

    @property
    def others(self) -> Tensor:
        """Images of classes outside the task, what a memory holds of the past, say."""
        inside = torch.isin(self._real.labels, torch.tensor(self.classes, device=self.device))
        return self._real.images[~inside]

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self._real.images.device

    @property
    def size(self) -> int:
        """The images of all classes in the task."""
        return sum(len(rows) for rows in self._rows)

    def batch(self, per_class: int, rng: torch.Generator) -> ClassBatch:
        """Returns real images of every class, drawn without replacement, at most all."""
        chosen = [rows[torch.randperm(len(rows), generator=rng)[:per_class]] for rows in self._rows]
        sizes = torch.tensor([len(rows) for rows in chosen])
        groups = torch.arange(len(chosen)).repeat_interleave(sizes)
        labels = torch.tensor(self.classes, device=self.device)
        return ClassBatch(self._real.images[torch.cat(chosen)], groups.to(self.device), labels)

    def mixed(self, count: int, rng: torch.Generator) -> LabelledImages:
        """Returns real images of the task's classes, drawn without replacement, at most all."""
        rows = torch.cat(self._rows)
        return self._real.rows(rows[torch.randperm(len(rows), generator=rng)[:count]])

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Returns what was made for an equal ``key``, and makes it at the first time.

        So whoever looks at these images can share what it takes long to learn from them.
        """
        for known, made in self._made:
            if known == key:
                return cast(T, made)
        made = make()
        self._made.append((key, made))
        return made

    def fresh(self, architecture: Architecture, *names: str | int) -> Network:
        """Returns a new network for these images, of the random stream that ``names`` describe."""
        return self._made_by(architecture, derive(self.seed, *names))

    def shared(self, architecture: Architecture, *names: str | int) -> Network:
        """Returns the new network that all tasks get which name their networks alike."""
        return self._made_by(architecture, derive(self.networks, *names))

    def _made_by(self, architecture: Architecture, rng: torch.Generator) -> Network:
        network = fresh(architecture, self.image_shape, self.num_classes, rng)
        return network.to(self.device)
