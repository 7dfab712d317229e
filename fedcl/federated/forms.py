"""The form of small sets on their way: pixels, or numbers that decode to images; and labels.

An upload's record holds

    ``images, counts``    uint8 pixels (:mod:`fedcl.wire`), or
    ``code/..., counts``  numbers that decode to images (:mod:`fedcl.federated.codes`);
    ``targets``           float16 ``(N, num_classes)``, what networks are to answer, where that
                          was learned and the server's loss can use it.

Pixels are taken from every client, whatever the method: they say no more than numbers do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.condenser import Condenser, Task, condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.labels import Labelling, scores
from distill.networks import ImageShape
from distill.synthetic import SyntheticSet
from distill.training import Recipe
from fedcl.federated.base import World
from fedcl.federated.codes import Codes
from fedcl.wire import (
    BadUploadError,
    check_array,
    check_distributions,
    check_images,
    pack_distributions,
    pack_images,
    unpack_distributions,
    unpack_images,
)

TARGETS = "targets"
FARTHEST = 5.0  # of a label for the squared loss from 0; those of two classes start 1 apart


@final
@dataclass(frozen=True)
class Form:
    """What the small sets of a federation are made of.

    Attributes:
        method: Makes them.
        learner: How the server trains on them; labels that its loss can't use stay behind.
            None: all of them do.
    """

    method: Condenser
    learner: Recipe | None = None

    def __post_init__(self) -> None:
        if isinstance(self.method, Distillation) and not all(
            decoder.learned for decoder in self.method.parameterisation.decoders
        ):
            raise ValueError(
                "method must learn all that decodes its images, since the server has not the "
                "generator of a client; take parameterisation=pixels, tiles or linear_bases"
            )

    def paid(self, task: Task, ipc: int) -> Task:
        """Returns a client's task, its counts raised to ``ipc`` if its few images pay for no code.

        Args:
            task: Its counts are those of pixel images that the client would send.
            ipc: Pixel images of each class that it may send.
        """
        codes = self._codes(task.real.image_shape, task.real.num_classes)
        try:
            if codes is not None:
                codes.rows(task.counts)
        except ValueError:
            return replace(task, counts=(task.counts > 0) * ipc)
        return task

    def pack(self, small: SyntheticSet) -> ArrayRecord:
        """Returns a small set as arrays; its images must be ordered by class."""
        data = small.data
        codes = self._codes(data.image_shape, data.num_classes)
        code, targets = small.code, data.targets
        record = pack_images(small) if code is None or codes is None else codes.pack(code)
        if targets is None or self.learner is None or not self.learner.uses_targets_of(data):
            return record
        sent = targets.clamp(-FARTHEST, FARTHEST) if self._squared else targets
        return ArrayRecord({**record, TARGETS: pack_distributions(sent)})

    def sketch(self, task: Task) -> SyntheticSet:
        """Returns a set that takes as many bytes as a task's, and means nothing."""
        real, label = task.real, self._label(task.real.num_classes)
        codes = self._codes(real.image_shape, real.num_classes)
        if codes is None:
            small = condense(Random(), task)
        else:
            code = codes.noise(codes.rows(task.counts), task.seed)
            small = SyntheticSet(code.as_images(), task.normalisation, "real", code)
        if not isinstance(self.method, Labelling) or not label:
            return small
        targets = self.method.labels.read(-torch.ones(len(small), label))
        return replace(small, data=replace(small.data, targets=targets))

    def check(self, record: ArrayRecord, world: World, ipc: int) -> None:
        """Refuses all but one set of the world's images and classes.

        Args:
            record: What arrived.
            world: What was agreed on.
            ipc: Pixel images allowed of each class, or their numbers.

        Raises:
            BadUploadError: Saying which rule is broken.
        """
        codes = self._codes(world.image_shape, world.num_classes)
        images = ArrayRecord({name: record[name] for name in record if name != TARGETS})
        if codes is None or "images" in images:
            check_images(images, world.image_shape, world.num_classes, ipc)
        else:
            codes.check(images, ipc)
        if TARGETS in record:
            self._check_targets(record, int(record["counts"].numpy().sum()), world.num_classes)

    def read(self, record: ArrayRecord, world: World) -> LabelledImages:
        """Returns the normalised images of a checked record."""
        codes = self._codes(world.image_shape, world.num_classes)
        if codes is None or "images" in record:
            data = unpack_images(record, world.normalisation, world.device)
        else:
            data = codes.read(record, world.normalisation).to(world.device)
        if TARGETS not in record:
            return data
        if self._squared:
            targets = torch.from_numpy(record[TARGETS].numpy().astype(np.float32))
        else:
            targets = unpack_distributions(record[TARGETS])
        return replace(data, targets=targets.to(world.device))

    def alike(self, sets: Iterable[LabelledImages]) -> list[LabelledImages]:
        """Returns sets that were read, all with targets if any has some."""
        sets = list(sets)
        if all(data.targets is None for data in sets):
            return sets
        hard = scores if self._squared else _one_hot
        return [
            replace(data, targets=hard(data.labels, data.num_classes))
            if data.targets is None
            else data
            for data in sets
        ]

    @property
    def _squared(self) -> bool:
        return self.learner is not None and self.learner.loss == "squared"

    def _codes(self, image_shape: ImageShape, num_classes: int) -> Codes | None:
        """Returns how images that are decoded are kept; None: the method makes pixels."""
        if self.method.makes_pixels or not isinstance(self.method, Distillation):
            return None
        label = self._label(num_classes)
        return Codes(self.method.parameterisation, label, image_shape, num_classes)

    def _label(self, num_classes: int) -> int:
        """Returns the numbers of an image's learned label; 0: it is the class."""
        return self.method.labels.numbers(num_classes) if isinstance(self.method, Labelling) else 0

    def _check_targets(self, record: ArrayRecord, images: int, num_classes: int) -> None:
        if self.learner is None or not self._label(num_classes):
            raise BadUploadError("arrays must be a small set's, got targets, which nobody learns")
        if not self._squared:
            check_distributions(record, TARGETS, images, num_classes)
            return
        size = abs(check_array(record, TARGETS, "float16", (images, num_classes))).max()
        if size > FARTHEST:
            raise BadUploadError(f"targets must be in [-{FARTHEST:g}, {FARTHEST:g}], got {size:g}")


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(labels, num_classes).float()
