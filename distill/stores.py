"""The types that a set's numbers are stored in, and what a tensor is after a round trip."""

from typing import Literal

import torch
from torch import Tensor

from distill.checks import one_of

Store = Literal["uint8", "float16", "float32"]
ITEMSIZES = {"uint8": 1, "float16": 2, "float32": 4}
STORES = tuple(ITEMSIZES)
RANGE_BYTES = 8  # of a uint8 tensor that is no image: its least number and its step, as float32


def itemsize(store: str) -> int:
    """Returns the bytes of one number.

    Raises:
        ValueError: If the store is unknown.
    """
    one_of("store", store, STORES)
    return ITEMSIZES[store]


def pack(numbers: Tensor, store: str) -> dict[str, Tensor]:
    """Returns any tensor as it is stored: ``numbers``, and for uint8 their ``range``.

    A uint8 number counts steps from the least number of the tensor.
    """
    one_of("store", store, STORES)
    if store != "uint8":
        return {"numbers": numbers.to(torch.float16 if store == "float16" else torch.float32)}
    least = numbers.min()
    step = ((numbers.max() - least) / 255).clamp(min=torch.finfo(torch.float32).tiny)
    counted = ((numbers - least) / step).round().clamp(0, 255).byte()
    return {"numbers": counted, "range": torch.stack([least, step]).float()}


def unpack(packed: dict[str, Tensor]) -> Tensor:
    """Returns what :func:`pack` stored, as float32.

    >>> import torch
    >>> unpack(pack(torch.tensor([0.0, 2.0, 51.0]), "uint8")).tolist()
    [0.0, 2.0, 51.0]
    """
    if "range" not in packed:
        return packed["numbers"].float()
    least, step = packed["range"].unbind()
    return packed["numbers"].float() * step + least
