"""Numbers that decode to images, as they cross the wire in the place of pixels.

Each array of a code (:class:`distill.parameterisations.base.Code`) travels as uint8 steps of its
range, ``code/NAME/numbers`` and ``code/NAME/range``, and ``counts``, int32 ``(num_classes,)``,
says how many images of each class they decode to. The parameterisation doesn't travel: both
sides know the method.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import final

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from distill.images import LabelledImages
from distill.parameterisations.base import Code, Parameterisation
from distill.stores import pack, unpack
from fedcl.federated.base import World
from fedcl.wire import BadUploadError, array_of, check_array, check_counts, pack_tensors

PREFIX, PARTS = "code/", ("numbers", "range")


@final
@dataclass(frozen=True)
class Codes:
    """Sets that are kept in one way.

    Attributes:
        parameterisation: What decodes their images.
        label: Numbers of the learned label of an image; 0: there is none.
    """

    parameterisation: Parameterisation
    label: int

    def pack(self, code: Code) -> ArrayRecord:
        """Returns a code's numbers, and the images of each class."""
        arrays = {"counts": code.counts.int()}
        for name, numbers in code.parameters.items():
            arrays |= packed(PREFIX + name, numbers)
        return pack_tensors(arrays)

    def check(self, record: ArrayRecord, world: World, ipc: int) -> None:
        """Refuses what doesn't decode to images of the world, or takes too many numbers.

        Args:
            record: What arrived.
            world: What was agreed on.
            ipc: Pixel images of each class whose numbers may be used.

        Raises:
            BadUploadError: Naming the rule that is broken.
        """
        names = {name.rpartition("/")[0] for name in record} - {""}
        wanted = {"counts"} | {f"{name}/{part}" for name in names for part in PARTS}
        if set(record) != wanted or not all(name.startswith(PREFIX) for name in names):
            raise BadUploadError(
                f"arrays must be counts and pairs {PREFIX}NAME/numbers, {PREFIX}NAME/range, "
                f"got {', '.join(record)}"
            )
        for name in names:
            check_packed(record, name)
        check_counts(record, world.num_classes, np.iinfo(np.int32).max)
        code = self._code(record, world)
        try:
            self._check_size(code, ipc)
            images = decoded(code).images
        except (KeyError, IndexError, RuntimeError, ValueError) as error:
            raise BadUploadError(f"numbers must decode to images, got {error}") from error
        if tuple(images.shape[1:]) != tuple(world.image_shape) or not images.isfinite().all():
            raise BadUploadError(
                f"numbers must decode to finite images of shape {tuple(world.image_shape)}, "
                f"got {tuple(images.shape[1:])}, or NaN or infinity"
            )

    def read(self, record: ArrayRecord, world: World) -> LabelledImages:
        """Returns the images of a checked record, normalised, cut to what pixels can be."""
        data = decoded(self._code(record, world))
        return replace(data, images=world.normalisation.clip(data.images))

    def _code(self, record: ArrayRecord, world: World) -> Code:
        names = [n.removesuffix("/numbers") for n in record if n.endswith("/numbers")]
        parameters = {name.removeprefix(PREFIX): unpacked(record, name) for name in names}
        counts = torch.from_numpy(record["counts"].numpy().astype(np.int64))
        return Code(self.parameterisation, parameters, counts, world.image_shape)

    def _check_size(self, code: Code, ipc: int) -> None:
        """Refuses more images, or numbers, than ``ipc`` pixel images of each class pay for.

        Raises:
            ValueError: If there are more.
        """
        counts = (code.counts > 0) * ipc
        decoding = {name: value for name, value in code.parameters.items() if "." in name}
        paying = replace(code, parameters=decoding, counts=counts)
        most = self.parameterisation.rows(paying, self.label) * self.parameterisation.branches
        paid = int(counts.sum()) * (prod(code.image_shape) + self.label)
        if (code.counts > most).any():
            raise ValueError(f"{int(code.counts.max())} of a class, at most {int(most.max())} paid")
        if code.numbers + self.label * int(code.counts.sum()) > paid:
            raise ValueError(f"{code.numbers} of them, at most {paid} paid")


def decoded(code: Code) -> LabelledImages:
    """Returns all images of a code, without a graph."""
    labels = code.labels
    with torch.no_grad():
        images = code.decode(torch.arange(len(labels)))
    return LabelledImages(images, labels.to(images.device), len(code.counts))


def packed(name: str, numbers: Tensor) -> dict[str, Tensor]:
    """Returns any numbers as uint8 steps of their range, by the names of their arrays."""
    return {f"{name}/{part}": value for part, value in pack(numbers, "uint8").items()}


def unpacked(record: ArrayRecord, name: str) -> Tensor:
    """Returns the numbers of checked arrays, float32."""
    return unpack({part: torch.from_numpy(record[f"{name}/{part}"].numpy()) for part in PARTS})


def check_packed(record: ArrayRecord, name: str, shape: tuple[int, ...] | None = None) -> None:
    """Refuses all but uint8 numbers, of a shape if one is wanted, and their finite range.

    Raises:
        BadUploadError: Saying what came instead.
    """
    numbers = array_of(record, f"{name}/numbers")
    if shape is None:
        shape = numbers.shape
    check_array(record, f"{name}/numbers", "uint8", shape)
    check_array(record, f"{name}/range", "float32", (2,))
