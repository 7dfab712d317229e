"""The form of small sets on their way: pixels, or numbers that decode to images; and labels.

An upload's record holds

    ``images, counts``              uint8 pixels (:mod:`fedcl.wire`), or
    ``code/..., counts``            numbers that decode to images (:mod:`fedcl.federated.codes`);
    ``targets/numbers, .../range``  what networks are to answer, where that was learned and the
                                    server's loss can use it, as uint8 steps of their range.

A server takes pixels from every client, whatever the method: they say no more than numbers do.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import torch
from flwr.app import ArrayRecord
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.condenser import Condenser, Task, condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.initialise import first_code
from distill.labels import Labelling, scores
from distill.synthetic import SyntheticSet
from distill.training import Recipe
from fedcl.federated.base import World
from fedcl.federated.codes import Codes, check_packed, decoded, packed, unpacked
from fedcl.wire import BadUploadError, check_images, pack_images, pack_tensors, unpack_images

TARGETS = "targets"


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

    def codes(self, num_classes: int) -> Codes | None:
        """Returns how images that are decoded are kept; None: the method makes pixels."""
        if self.method.makes_pixels or not isinstance(self.method, Distillation):
            return None
        return Codes(self.method.parameterisation, self._label(num_classes))

    def pack(self, small: SyntheticSet) -> ArrayRecord:
        """Returns a small set as arrays; its images must be ordered by class."""
        codes = self.codes(small.data.num_classes)
        if small.code is None or codes is None:
            record = pack_images(small)
        else:
            record = codes.pack(small.code)
        if small.data.targets is None or not self._uses_targets_of(small.data):
            return record
        return ArrayRecord({**record, **pack_tensors(packed(TARGETS, small.data.targets))})

    def check(self, record: ArrayRecord, world: World, ipc: int) -> None:
        """Refuses all but one set of the world's images and classes.

        Args:
            record: What arrived.
            world: What was agreed on.
            ipc: Pixel images allowed of each class, or their numbers.

        Raises:
            BadUploadError: Saying which rule is broken.
        """
        codes = self.codes(world.num_classes)
        images = ArrayRecord({n: a for n, a in record.items() if not n.startswith(TARGETS)})
        if codes is None or "images" in images:
            check_images(images, world.image_shape, world.num_classes, ipc)
        else:
            codes.check(images, world, ipc)
        if len(images) < len(record):
            self._check_targets(record, world)

    def read(self, record: ArrayRecord, world: World) -> LabelledImages:
        """Returns the normalised images of a checked record."""
        codes = self.codes(world.num_classes)
        if codes is None or "images" in record:
            data = unpack_images(record, world.normalisation, world.device)
        else:
            data = codes.read(record, world).to(world.device)
        if f"{TARGETS}/numbers" not in record:
            return data
        return replace(data, targets=unpacked(record, TARGETS).to(world.device))

    def alike(self, sets: Iterable[LabelledImages]) -> list[LabelledImages]:
        """Returns sets that were read, all with targets if any has some."""
        sets = list(sets)
        if self.learner is None or all(data.targets is None for data in sets):
            return sets
        hard = scores if self.learner.loss == "squared" else _one_hot
        return [
            replace(data, targets=hard(data.labels, data.num_classes))
            if data.targets is None
            else data
            for data in sets
        ]

    def sketch(self, task: Task) -> SyntheticSet:
        """Returns a set that takes as many bytes as a task's, and means nothing."""
        label, codes = self._label(task.real.num_classes), self.codes(task.real.num_classes)
        if codes is None:
            small = condense(Random(), task)
        else:
            code, origin = first_code(codes.parameterisation, task, Random(), label)
            noise = {name: torch.rand_like(value) for name, value in code.parameters.items()}
            code = replace(code, parameters=noise)  # what is equal would travel once in a message
            small = SyntheticSet(decoded(code), task.normalisation, origin, code)
        if not label or not isinstance(self.method, Labelling):
            return small
        targets = self.method.labels.read(-torch.ones(len(small), label))
        return replace(small, data=replace(small.data, targets=targets.to(small.data.images)))

    def _label(self, num_classes: int) -> int:
        """Returns the numbers of an image's learned label; 0: it is the class."""
        return self.method.labels.numbers(num_classes) if isinstance(self.method, Labelling) else 0

    def _uses_targets_of(self, data: LabelledImages) -> bool:
        return self.learner is not None and self.learner.uses_targets_of(data)

    def _check_targets(self, record: ArrayRecord, world: World) -> None:
        names = [name for name in record if name.startswith(TARGETS)]
        if sorted(names) != [f"{TARGETS}/numbers", f"{TARGETS}/range"]:
            raise BadUploadError(
                f"targets must be {TARGETS}/numbers, {TARGETS}/range, got {', '.join(names)}"
            )
        check_packed(record, TARGETS, (int(record["counts"].numpy().sum()), world.num_classes))
        if not self._uses_targets_of(self.read(record, world)):
            raise BadUploadError("targets must be of use to the server's loss, got others")


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    return F.one_hot(labels, num_classes).float()
