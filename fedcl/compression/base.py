"""What a compressor is: a vector in, few bytes out, and a vector near it back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import ArrayRecord
from torch import Tensor

from fedcl.wire import BadUploadError, array_of

Shape = tuple[int, ...]


class Compressor(ABC):
    """A lossy code of float32 vectors. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def encode(self, vector: Tensor, sizes: Sequence[int], rng: torch.Generator) -> ArrayRecord:
        """Returns the vector as arrays of few bytes.

        Args:
            vector: Finite float32, ``(d,)``.
            sizes: Lengths of the tensors that it is made of, in order; their sum is d.
            rng: For codes that round at random.
        """

    @abstractmethod
    def decode(self, record: ArrayRecord, sizes: Sequence[int]) -> Tensor:
        """Returns a vector near the one that was encoded, float32, ``(d,)``.

        Args:
            record: What :meth:`encode` returned, or whatever a client sent in its place.
            sizes: As they were given to :meth:`encode`.

        Raises:
            BadUploadError: If these are not the arrays of such a vector.
        """


def checked(
    record: ArrayRecord, wanted: Mapping[str, tuple[type[Any], Shape]]
) -> dict[str, npt.NDArray[Any]]:
    """Returns the arrays of a record, once they have the names, types and shapes wanted.

    Raises:
        BadUploadError: Naming the first array that is wrong, or not finite.
    """
    if set(record) != set(wanted):
        raise BadUploadError(f"arrays must be {', '.join(wanted)}, got {', '.join(record)}")
    arrays = {name: array_of(record, name) for name in wanted}
    for name, (dtype, shape) in wanted.items():
        array = arrays[name]
        if array.dtype != dtype or array.shape != shape:
            raise BadUploadError(
                f"{name} must be {np.dtype(dtype)} of shape {shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise BadUploadError(f"{name} must be finite, got NaN or infinity")
    return arrays


def per_tensor(numbers: npt.NDArray[Any], sizes: Sequence[int]) -> Tensor:
    """Returns one number a tensor as one a coordinate, ``(d,)``."""
    return torch.from_numpy(numbers).repeat_interleave(torch.tensor(list(sizes)))
