"""Numbers that decode to images, as they cross the wire in the place of pixels.

Each array of a code (:class:`distill.parameterisations.base.Code`) travels as uint8 steps of its
range, ``code/NAME/numbers`` and ``code/NAME/range``, and ``counts``, int32 ``(num_classes,)``,
says how many images of each class they decode to. The parameterisation doesn't travel: both
sides know the method. Names and shapes follow from the counts, so that they are known before
anything is decoded.
"""

from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from distill.images import LabelledImages, Normalisation
from distill.networks import ImageShape
from distill.parameterisations.base import Code, Parameterisation, Parameters
from distill.rng import derive
from distill.stores import pack, unpack
from fedcl.wire import BadUploadError, check_array, check_counts, pack_tensors

PREFIX, NUMBERS, RANGE = "code/", "/numbers", "/range"


@final
@dataclass(frozen=True)
class Codes:
    """Sets that are kept in one way.

    Attributes:
        parameterisation: What decodes their images.
        label: Numbers of the learned label of an image; 0: there is none.
        image_shape: (C, H, W).
        num_classes: Classes of the task.
    """

    parameterisation: Parameterisation
    label: int
    image_shape: ImageShape
    num_classes: int

    def rows(self, counts: Tensor) -> Tensor:
        """Returns the rows of each class that pixel images ``counts`` ``(num_classes,)`` pay for.

        Raises:
            ValueError: If they don't pay for a row of every class.
        """
        code = Code(self.parameterisation, self._decoding(counts), counts, self.image_shape)
        return self.parameterisation.rows(code, self.label)

    def noise(self, rows: Tensor, seed: int) -> Code:
        """Returns a code of so many rows of each class, of numbers that mean nothing."""
        rng, like = derive(seed, "numbers that mean nothing"), self._like(rows)
        parameters = {n: torch.rand(p.shape, generator=rng) for n, p in like.parameters.items()}
        return replace(like, parameters=parameters)

    def pack(self, code: Code) -> ArrayRecord:
        """Returns a code's numbers, and the images of each class."""
        arrays = {"counts": code.counts.int()}
        for name, numbers in code.parameters.items():
            kept = pack(numbers, "uint8")
            arrays |= {
                PREFIX + name + NUMBERS: kept["numbers"],
                PREFIX + name + RANGE: kept["range"],
            }
        return pack_tensors(arrays)

    def check(self, record: ArrayRecord, ipc: int) -> None:
        """Refuses other arrays than a code has, and more than pixel images would pay for.

        Args:
            record: What arrived.
            ipc: Pixel images of each class whose numbers may be used.

        Raises:
            BadUploadError: Naming the rule that is broken.
        """
        check_counts(record, self.num_classes, np.iinfo(np.int32).max)
        counts, branches = _counts(record), self.parameterisation.branches
        if not counts.any():
            raise BadUploadError("counts must be of at least one image, got none")
        try:
            most = self.rows((counts > 0) * ipc) * branches
        except ValueError as error:
            raise BadUploadError(
                f"images must be pixels, which pay for no code: {error}"
            ) from error
        if (counts > most).any() or (counts % branches > 0).any():
            raise BadUploadError(
                f"counts must be multiples of {branches}, at most {most.tolist()}, "
                f"got {counts.tolist()}"
            )
        like = self._like(counts // branches).parameters
        wanted = ["counts", *(PREFIX + name + part for name in like for part in (NUMBERS, RANGE))]
        if set(record) != set(wanted):
            raise BadUploadError(f"arrays must be {', '.join(wanted)}, got {', '.join(record)}")
        for name, numbers in like.items():
            check_array(record, PREFIX + name + NUMBERS, "uint8", tuple(numbers.shape))
            check_array(record, PREFIX + name + RANGE, "float32", (2,))
        if not self._code(record).as_images().images.isfinite().all():
            raise BadUploadError("numbers must decode to finite images, got NaN or infinity")

    def read(self, record: ArrayRecord, normalisation: Normalisation) -> LabelledImages:
        """Returns the images of a checked record, normalised, cut to what pixels can be."""
        data = self._code(record).as_images()
        return replace(data, images=normalisation.clip(data.images))

    def _code(self, record: ArrayRecord) -> Code:
        parameters = dict[str, Tensor]()
        for array in (name for name in record if name.endswith(NUMBERS)):
            name = array.removeprefix(PREFIX).removesuffix(NUMBERS)
            kept = {"numbers": record[array], "range": record[PREFIX + name + RANGE]}
            parameters[name] = unpack({k: torch.from_numpy(a.numpy()) for k, a in kept.items()})
        return Code(self.parameterisation, parameters, _counts(record), self.image_shape)

    def _like(self, rows: Tensor) -> Code:
        """Returns a code of so many rows of each class that has shapes and no numbers."""
        return self.parameterisation.encode(self._decoding(rows), self._images(rows), seed=0)

    def _decoding(self, counts: Tensor) -> Parameters:
        """Returns the decoders' parameters, which have shapes and no numbers."""
        return self.parameterisation.decoding(self._images(counts.clamp(max=1)), seed=0)

    def _images(self, counts: Tensor) -> LabelledImages:
        """Returns images that have a shape and no pixels."""
        labels = torch.arange(self.num_classes).repeat_interleave(counts)
        images = torch.empty(len(labels), *self.image_shape, device="meta")
        return LabelledImages(images, labels, self.num_classes)


def _counts(record: ArrayRecord) -> Tensor:
    return torch.from_numpy(record["counts"].numpy().astype(np.int64))
