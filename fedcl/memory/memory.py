"""A memory of earlier classes: stored small sets within a budget.

It knows nothing of Avalanche or Flower; both replay from it through an adapter. A memory is a
value: learning something new returns another one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Self, final

import torch
from torch import Tensor

from distill.condenser import Condenser, Given, Task, condense
from distill.images import LabelledImages, Normalisation, bytes_of
from distill.networks import ImageShape
from distill.rng import derive, subseed
from distill.synthetic import SyntheticSet
from distill.work import Work, condensing
from fedcl.factorised import check_fits, fitted, kept_bytes
from fedcl.memory.budget import Budget
from fedcl.stores.base import Frame

KEPT, TARGETS = "kept/", "targets/"  # before a class, in a state


@final
@dataclass(frozen=True)
class Memory:
    """Small sets by class.

    A class that comes back is merged: its slots are divided between what is stored and what
    is new in proportion to the real images that each stands for, and each part is made small
    by the same method. So is, for any method, what reservoir sampling is for random images.

    A method whose images are decoded leaves one set an experience, in the bytes that are
    reserved for its classes; no class of it may come back.

    What is kept lies on the CPU, and small sets are made where the images are that it learns.

    Attributes:
        budget: How much may be held.
        image_shape: (C, H, W).
        num_classes: Classes of the task.
        normalisation: Map between stored pixels and what networks see.
        kept: The store's rows, by class, in the order first seen.
        targets: The distributions of these rows' images, float16 ``(n, num_classes)``, by class;
            empty where labels are hard.
        shared: What all rows share.
        seen: Real images that were learnt of each class, int64 ``(num_classes,)``.
        stage: Images of a stream that wait to be learnt, uint8.
        sets: Sets whose images are decoded, as read back from the store.
        peak: The most bytes that were ever held.
    """

    budget: Budget
    image_shape: ImageShape
    num_classes: int
    normalisation: Normalisation
    kept: Mapping[int, Tensor]
    shared: Tensor
    seen: Tensor
    stage: LabelledImages
    sets: Sequence[SyntheticSet] = ()
    peak: int = 0
    targets: Mapping[int, Tensor] = field(default_factory=dict)

    @classmethod
    def empty(
        cls, budget: Budget, shape: ImageShape, num_classes: int, normalisation: Normalisation
    ) -> Self:
        """Returns a memory that holds nothing.

        Raises:
            ValueError: If the budget is too small for the task.
        """
        budget.capacity(shape, num_classes)
        seen = torch.zeros(num_classes, dtype=torch.int64)
        stage = _no_images(shape, num_classes)
        return cls(budget, shape, num_classes, normalisation, {}, torch.zeros(0), seen, stage)

    def __len__(self) -> int:
        return sum(map(len, self.kept.values())) + sum(map(len, self.sets))

    @property
    def bytes(self) -> int:
        """Bytes of what is stored or staged, and of labels, one byte each or more."""
        rows = (self.shared, *self.kept.values(), *self.targets.values(), self.stage.images)
        labels = sum(map(len, self.kept.values())) + len(self.stage)
        sets = sum(kept_bytes(small, self.budget.store.numbers) for small in self.sets)
        return sum(part.nbytes for part in rows) + labels + sets

    @property
    def allowed(self) -> int:
        """Bytes that the budget allows."""
        return self.budget.allowed(self.image_shape, self.num_classes)

    def data(self) -> LabelledImages:
        """Returns the images as networks see them, normalised, ordered by class."""
        parts = [self._stored(sorted(self.kept)), *(small.data for small in self.sets)]
        whole = LabelledImages.union(parts)
        return whole.rows(whole.labels.argsort(stable=True))

    def as_set(self) -> SyntheticSet:
        """Returns the images as a small set."""
        return SyntheticSet(self.data(), self.normalisation, "real")

    def learn(self, real: LabelledImages, method: Condenser, seed: int) -> Self:
        """Returns the memory after the classes of ``real`` were seen.

        Args:
            real: Normalised images of one experience.
            method: Makes the small sets.
            seed: Names the random streams of this call.
        """
        if not method.makes_pixels:
            return self._with_set(real, method, seed)
        slots = self._slots(real, seed)
        old, new = (_made(method, task) for task in self._tasks(slots, real, seed))
        kept, targets = (
            {c: rows[: slots[c][0]] for c, rows in part.items() if c not in old}
            for part in (self.kept, self.targets)
        )
        left = replace(self, kept=kept, targets=targets, seen=self.seen + real.counts)
        order = {label: subseed(seed, "order", label) for label in slots}
        return self._joined(left, order, old, new)

    def streamed(self, images: LabelledImages, method: Condenser, seed: int) -> "Memory":
        """Returns the memory after images of a stream have come, in their order.

        They join the stage, and each time ``buffer.staged`` wait there, the memory learns them.

        Args:
            images: Normalised images, as many as came at once.
            method: Makes the small sets.
            seed: Names the random streams of this call.

        Raises:
            ValueError: If the budget has no stage.
        """
        most = self.budget.staged
        if most is None:
            raise ValueError("buffer.staged must be given where images are streamed, got null")
        held: Memory = self
        full = range(most - len(self.stage), len(images), most)
        for part, rows in enumerate(torch.arange(len(images)).tensor_split(list(full))):
            held = held._staging(images.rows(rows))
            if len(held.stage) == most:
                held = held.flushed(method, subseed(seed, "part", part), images.images.device)
        return held

    def flushed(self, method: Condenser, seed: int, device: torch.device | str = "cpu") -> Self:
        """Returns the memory after it has learnt what waits, as at the end of an experience.

        Args:
            method: Makes the small sets.
            seed: Names the random streams of this call.
            device: Where they are made.
        """
        if not len(self.stage):
            return self
        waiting = self.stage.to(device)
        real = replace(waiting, images=self.normalisation(waiting.images))
        learnt = self.learn(real, method, seed)
        return replace(learnt, stage=_no_images(self.image_shape, self.num_classes))

    def _staging(self, images: LabelledImages) -> Self:
        pixels = replace(images, images=self.normalisation.quantise(images.images)).to("cpu")
        return replace(self, stage=LabelledImages.union([self.stage, pixels]))._counted()

    def _counted(self) -> Self:
        return replace(self, peak=max(self.peak, self.bytes))

    def check(self, method: Condenser, experiences: Iterable[LabelledImages]) -> None:
        """Refuses what can't be kept of experiences, as far as that is known before any is learnt.

        Args:
            method: Makes the small sets.
            experiences: Normalised images, in their order.

        Raises:
            ValueError: If a set of decoded images doesn't fit, or an image the store.
        """
        if method.makes_pixels:
            if not self.budget.store.sizes(self.image_shape)[1]:
                self.budget.store.encode(next(iter(experiences)).images[:1].cpu(), self._frame)
            return
        held = self
        for real in experiences:
            check_fits(method, *held._reserved(real, 0), self.budget.store.numbers)
            held = replace(held, seen=held.seen + real.counts)

    def learning(self, real: LabelledImages, method: Condenser, seed: int) -> list[Work]:
        """Returns :meth:`learn` undone."""
        if not method.makes_pixels:
            return [condensing("filling memories", method, self._reserved(real, seed)[0])]
        tasks = self._tasks(self._slots(real, seed), real, seed)
        return [condensing("filling memories", method, task) for task in tasks if task is not None]

    def _with_set(self, real: LabelledImages, method: Condenser, seed: int) -> Self:
        self.budget.check_method(method.method if isinstance(method, Given) else method)
        task, most = self._reserved(real, seed)
        soft, store = self.budget.labels == "soft", self.budget.store.numbers
        sets = [*self.sets, fitted(method, task, store, most, soft).to("cpu")]
        return replace(self, sets=sets, seen=self.seen + real.counts)._counted()

    def _reserved(self, real: LabelledImages, seed: int) -> tuple[Task, int]:
        """Returns what makes a set of all classes of ``real``, and the bytes that it may take.

        Raises:
            ValueError: If one of them was learnt before.
        """
        before, counts = int(self.seen.count_nonzero()), real.counts
        if (self.seen[counts > 0] > 0).any():
            raise ValueError(
                "classes must come once with a method whose images are decoded, since a set's "
                f"images share numbers, got {self.seen.tolist()} images of each class before"
            )
        shares = torch.tensor(self._shares(before + int(counts.count_nonzero()))[before:])
        most = int(shares.sum()) * self.budget.bytes_each(self.image_shape, self.num_classes)
        counts[counts > 0] = counts[counts > 0].minimum(shares)
        return Task(real, counts, self.normalisation, seed), most

    def _slots(self, real: LabelledImages, seed: int) -> dict[int, tuple[int, int]]:
        """Returns the images to keep of each class, stored ones and new ones.

        What is new gets its proportion rounded at random, so that few new images beside many
        seen ones get a slot now and then.
        """
        counts, slots = real.counts.tolist(), dict[int, tuple[int, int]]()
        new = [c for c, count in enumerate(counts) if count and c not in self.kept]
        order = [*self.kept, *new]
        for label, share in zip(order, self._shares(len(order)), strict=True):
            stored, count = len(self.kept.get(label, ())), counts[label]
            proportion = share * count / (int(self.seen[label]) + count)
            drawn = torch.rand((), generator=derive(seed, "slots", label)).item()
            added = min(count, int(proportion + drawn))
            slots[label] = min(stored, share - added), added
        return slots

    def _shares(self, seen: int) -> Sequence[int]:
        groups = self.num_classes if self.budget.allocation == "fixed" else seen
        share, left = divmod(self.budget.capacity(self.image_shape, self.num_classes), groups)
        return [share + (index < left) for index in range(seen)]

    def _tasks(
        self, slots: Mapping[int, tuple[int, int]], real: LabelledImages, seed: int
    ) -> tuple[Task | None, Task | None]:
        """Returns what makes stored images fewer, and what makes new ones small."""
        redistilled = torch.zeros(self.num_classes, dtype=torch.int64)
        added = torch.zeros_like(redistilled)
        for label, (kept, new) in slots.items():
            added[label] = new
            if self.budget.shrink == "redistil" and kept < len(self.kept.get(label, ())):
                redistilled[label] = kept
        others = [c for c in sorted(self.kept) if not real.counts[c]]
        there = real.images.device
        stored, others_stored = (
            replace(self._stored(classes).to(there), targets=None)
            for classes in (sorted(self.kept), others)
        )
        source = LabelledImages.union([others_stored, real])
        return (
            self._task(stored, redistilled, subseed(seed, "stored")),
            self._task(source, added, seed),
        )

    def _task(self, source: LabelledImages, counts: Tensor, seed: int) -> Task | None:
        return Task(source, counts, self.normalisation, seed) if counts.any() else None

    def _joined(
        self,
        left: Self,
        order: Mapping[int, int],
        old: Mapping[int, LabelledImages],
        new: Mapping[int, LabelledImages],
    ) -> Self:
        """Returns what is left of this memory with images beside what it keeps of each class.

        Args:
            left: The rows that stay.
            order: The classes, each with the seed of where its new rows lie among those that stay.
            old: What stored images became, by class.
            new: What new images became, by class.
        """
        store = self.budget.store
        held = left._sharing([part.images for part in (*old.values(), *new.values())])
        kept, targets = dict[int, Tensor](), dict[int, Tensor]()
        for label, seed in order.items():
            mixed = partial(_mixed, seed=seed if self.budget.shrink == "prefix" else None)
            parts = [made[label] for made in (old, new) if label in made]
            rows = [store.encode(part.images, held._frame) for part in parts]
            if label in old and store.lasting:
                rows[0] = self._unchanged(label, parts[0].images, rows[0])
            kept[label] = mixed([*_of(held.kept, label), *rows])
            if self.budget.labels == "soft":
                soft = [part.distributions.half() for part in parts]
                targets[label] = mixed([*_of(held.targets, label), *soft])
        return replace(held, kept=kept, targets=targets)._counted()

    def _unchanged(self, label: int, images: Tensor, rows: Tensor) -> Tensor:
        """Returns rows where images that this memory keeps have theirs: none is rounded twice."""
        decoded = self.budget.store.decode(self.kept[label], self._frame)
        known = dict(zip(map(bytes_of, decoded), self.kept[label], strict=True))
        pairs = zip(map(bytes_of, images), rows, strict=True)
        return torch.stack([known.get(image, row) for image, row in pairs])

    def _sharing(self, images: Sequence[Tensor]) -> Self:
        """Returns this memory with its rows, and images that will join them, sharing the same."""
        store = self.budget.store
        if not store.sizes(self.image_shape)[1]:
            return self
        before = {c: store.decode(rows, self._frame) for c, rows in self.kept.items()}
        held = replace(self, shared=store.share(torch.cat([*before.values(), *images])))
        kept = {c: store.encode(part, held._frame) for c, part in before.items()}
        return replace(held, kept=kept)

    @property
    def _frame(self) -> Frame:
        return Frame(self.image_shape, self.normalisation, self.shared)

    def _stored(self, classes: Sequence[int]) -> LabelledImages:
        parts = [self.budget.store.decode(self.kept[c], self._frame) for c in classes]
        labels = [torch.full((len(part),), c) for c, part in zip(classes, parts, strict=True)]
        soft = self.budget.labels == "soft"
        if not parts:
            none = _no_images(self.image_shape, self.num_classes)
            targets = torch.zeros(0, self.num_classes) if soft else None
            return replace(none, images=none.images.float(), targets=targets)
        targets = torch.cat([self.targets[c] for c in classes]).float() if soft else None
        return LabelledImages(torch.cat(parts), torch.cat(labels), self.num_classes, targets)

    def state(self) -> dict[str, Any]:
        """Returns what is kept, for a checkpoint."""
        kept = {f"{KEPT}{label}": rows for label, rows in self.kept.items()}
        kept |= {f"{TARGETS}{label}": rows for label, rows in self.targets.items()}
        stage = {"stage/images": self.stage.images, "stage/labels": self.stage.labels}
        sets = {"sets": [small.state() for small in self.sets]} if self.sets else {}
        peak = torch.tensor([self.peak])
        return {**kept, "shared": self.shared, "seen": self.seen, **stage, **sets, "peak": peak}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """Returns a memory of this budget that keeps what :meth:`state` took."""
        kept, targets = (
            {
                int(name.removeprefix(prefix)): rows
                for name, rows in state.items()
                if name.startswith(prefix)
            }
            for prefix in (KEPT, TARGETS)
        )
        images, labels = state["stage/images"], state["stage/labels"]
        return replace(
            self,
            kept=kept,
            targets=targets,
            shared=state["shared"],
            seen=state["seen"],
            stage=LabelledImages(images, labels, self.num_classes),
            sets=[SyntheticSet.from_state(small) for small in state.get("sets", [])],
            peak=int(state["peak"]),
        )


def _no_images(image_shape: ImageShape, num_classes: int) -> LabelledImages:
    """Returns no image, as the type of those that are stored."""
    none = torch.zeros(0, *image_shape, dtype=torch.uint8)
    return LabelledImages(none, torch.zeros(0, dtype=torch.int64), num_classes)


def _made(method: Condenser, task: Task | None) -> dict[int, LabelledImages]:
    """Returns the small sets of a task by class."""
    if task is None:
        return {}
    small = condense(method, task).data.to("cpu")
    return {c: small.rows((small.labels == c).nonzero().squeeze(1)) for c in task.classes}


def _of(rows: Mapping[int, Tensor], label: int) -> list[Tensor]:
    return [rows[label]] if label in rows else []


def _mixed(parts: Sequence[Tensor], seed: int | None) -> Tensor:
    """Returns the rows of all parts, each in its order, so that a prefix has its share of each.

    Args:
        parts: Rows, ``(N, ...)`` each.
        seed: Draws where they lie, so that whoever keeps a prefix again and again drops none
            sooner than another; None: evenly.
    """
    if seed is None:
        places = [(torch.arange(len(part)) + 0.5) / len(part) for part in parts]
    else:
        rng = derive(seed, "places")
        places = [torch.rand(len(part), generator=rng).sort().values for part in parts]
    return torch.cat(list(parts))[torch.cat(places).argsort(stable=True)]
