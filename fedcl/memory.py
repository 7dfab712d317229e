"""A memory of earlier classes: stored small sets, limited in images or in bytes.

It knows nothing of Avalanche or Flower; both replay from it through an adapter. A memory is a
value: learning something new returns another one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, final

import torch
from torch import Tensor

from distill.checks import one_of, whole
from distill.condenser import Condenser, Task, condense
from distill.images import LabelledImages, Normalisation, stored_bytes
from distill.networks import ImageShape
from distill.synthetic import SyntheticSet
from distill.work import Work, condensing

Store = Literal["uint8", "float32"]
Allocation = Literal["adaptive", "fixed"]


@final
@dataclass(frozen=True)
class Budget:
    """How much a memory may hold; either ``images`` or ``bytes`` is given.

    Attributes:
        images: Images in all, >= 1, or None.
        bytes: Bytes in all, labels included, >= 1, or None.
        allocation: ``fixed`` reserves an equal share for every class of the task from the
            start; ``adaptive`` divides all of it among the classes seen so far.
        store: The type in which images are kept.
    """

    images: int | None
    bytes: int | None
    allocation: Allocation
    store: Store

    def __post_init__(self) -> None:
        if (self.images is None) == (self.bytes is None):
            raise ValueError(
                "exactly one of buffer.images and buffer.bytes must be given, "
                f"got images={self.images} and bytes={self.bytes}"
            )
        for name, value in (("buffer.images", self.images), ("buffer.bytes", self.bytes)):
            if value is not None:
                whole(name, value, 1)
        one_of("buffer.allocation", self.allocation, ("adaptive", "fixed"))
        one_of("buffer.store", self.store, ("uint8", "float32"))

    def capacity(self, image_shape: ImageShape, num_classes: int) -> int:
        """Returns the images that fit.

        Raises:
            ValueError: If they are fewer than the classes, so that some would have none.
        """
        given, capacity = f"buffer.images={self.images}", self.images or 0
        if self.bytes is not None:
            one = stored_bytes(1, image_shape, self.store)
            given, capacity = f"buffer.bytes={self.bytes}, {one} an image", self.bytes // one
        if capacity < num_classes:
            raise ValueError(
                f"the buffer must hold an image of each of {num_classes} classes, "
                f"got {capacity} images ({given})"
            )
        return capacity


@final
@dataclass(frozen=True)
class Memory:
    """Small sets by class.

    Attributes:
        budget: How much may be held.
        image_shape: (C, H, W).
        num_classes: Classes of the task.
        normalisation: Map between stored pixels and what networks see.
        kept: Images as stored, ``(n, C, H, W)``, by class, in the order first seen.
    """

    budget: Budget
    image_shape: ImageShape
    num_classes: int
    normalisation: Normalisation
    kept: Mapping[int, Tensor]

    @classmethod
    def empty(
        cls, budget: Budget, shape: ImageShape, num_classes: int, normalisation: Normalisation
    ) -> Self:
        """Returns a memory that holds nothing.

        Raises:
            ValueError: If the budget is too small for the task.
        """
        budget.capacity(shape, num_classes)
        return cls(budget, shape, num_classes, normalisation, {})

    def __len__(self) -> int:
        return sum(len(images) for images in self.kept.values())

    @property
    def bytes(self) -> int:
        """Bytes of images and labels as stored, one byte a label."""
        return stored_bytes(len(self), self.image_shape, self.budget.store)

    def data(self) -> LabelledImages:
        """Returns the images as networks see them, normalised, ordered by class."""
        parts = [self._unpacked(self.kept[label]) for label in sorted(self.kept)]
        labels = [torch.full((len(self.kept[c]),), c) for c in sorted(self.kept)]
        if not parts:
            return LabelledImages(
                torch.zeros(0, *self.image_shape), torch.zeros(0).long(), self.num_classes
            )
        return LabelledImages(torch.cat(parts), torch.cat(labels), self.num_classes)

    def as_set(self) -> SyntheticSet:
        """Returns the images as a small set."""
        return SyntheticSet(self.data(), self.normalisation, "real")

    def holding(self, data: LabelledImages) -> Self:
        """Returns a memory of this budget that keeps exactly ``data``, normalised images."""
        present = [int(label) for label in data.counts.nonzero().flatten()]
        return replace(self, kept={c: self._packed(data.of_class(c)) for c in present})

    def learn(self, real: LabelledImages, method: Condenser, seed: int) -> Self:
        """Returns the memory after the classes of ``real`` were seen.

        What changes its share is made small again by the same method: a new class out of its
        real images, an old one out of its stored ones, a class that comes back out of both.

        Args:
            real: Normalised images of one experience.
            method: Makes the small sets.
            seed: Names the random streams of this call.
        """
        task = self._wanted(real, seed)
        small = condense(method, task).data
        kept = dict(self.kept) | {c: self._packed(small.of_class(c)) for c in task.classes}
        return replace(self, kept=kept)

    def learning(self, real: LabelledImages, method: Condenser, seed: int) -> Work:
        """Returns :meth:`learn` undone."""
        return condensing("filling memories", method, self._wanted(real, seed))

    def _wanted(self, real: LabelledImages, seed: int) -> Task:
        new = [int(label) for label in real.counts.nonzero().flatten()]
        order = [*self.kept, *(label for label in new if label not in self.kept)]
        shares = dict(zip(order, self._shares(len(order)), strict=True))
        changed = [c for c in order if c in new or len(self.kept[c]) > shares[c]]
        source = LabelledImages.union([self.data(), real]) if self.kept else real
        counts = torch.zeros(self.num_classes, dtype=torch.int64)
        for label in changed:
            counts[label] = min(shares[label], int(source.counts[label]))
        return Task(source, counts, self.normalisation, seed)

    def _shares(self, seen: int) -> Sequence[int]:
        groups = self.num_classes if self.budget.allocation == "fixed" else seen
        share, left = divmod(self.budget.capacity(self.image_shape, self.num_classes), groups)
        return [share + (index < left) for index in range(seen)]

    def _packed(self, images: Tensor) -> Tensor:
        return self.normalisation.quantise(images) if self.budget.store == "uint8" else images

    def _unpacked(self, images: Tensor) -> Tensor:
        return self.normalisation(images) if self.budget.store == "uint8" else images

    def state(self) -> dict[str, Any]:
        """Returns what is kept, for a checkpoint."""
        return {"classes": list(self.kept), "images": list(self.kept.values())}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Returns a memory of this budget that keeps what :meth:`state` took."""
        return replace(self, kept=dict(zip(state["classes"], state["images"], strict=True)))
