"""What crosses the wire: weights and small sets as Flower records.

A network travels as its state dict, float32. A small set travels as ``images``, uint8
``(N, C, H, W)``, and ``counts``, int32 ``(num_classes,)``, the images being ordered by class:
a count a class says what a label an image would, in fewer bytes.
"""

from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from torch import Tensor, nn

from distill.images import LabelledImages, Normalisation
from distill.synthetic import SyntheticSet
from fedcl.memory import Memory

LARGEST = 1e6  # of a weight; no network that learns comes near, and no sum of such overflows
Frozen = tuple[str, Mapping[str, bytes]]  # object id, and every nested object by its id


class BadUploadError(ValueError):
    """Something that arrived breaks a rule; the text says which, and what came."""


@final
class Packet:
    """A message as the bytes that a SuperLink would carry: headers, ids and metadata included."""

    def __init__(self, message: Message) -> None:
        with no_object_id_recompute():
            self.object_id = message.object_id
            objects = get_all_nested_objects(message)
            self.blobs = {key: value.deflate() for key, value in objects.items()}
        self.size = sum(len(blob) for blob in self.blobs.values())
        self.payload = 0 if message.has_error() else payload_bytes(message.content)

    def unpack(self) -> Message:
        """Returns the message as the other side sees it."""
        message = inflate_object_from_contents(self.object_id, dict(self.blobs))
        if not isinstance(message, Message):
            raise TypeError(f"a packet must hold a Message, got {type(message).__name__}")
        message.metadata.__dict__["_message_id"] = self.object_id
        return message


def payload_bytes(content: RecordDict) -> int:
    """Returns the bytes of array data in a message, without any header that can be read."""
    records = content.array_records.values()
    return sum(_nbytes(record, name) for record in records for name in record)


def _nbytes(record: ArrayRecord, name: str) -> int:
    try:
        return array_of(record, name).nbytes
    except BadUploadError:
        return len(record[name].data)


def freeze(record: RecordDict) -> Frozen:
    """Returns a client's state as bytes that pickle, copy and checkpoint."""
    objects = get_all_nested_objects(record)
    return record.object_id, {key: value.deflate() for key, value in objects.items()}


def thaw(frozen: Frozen) -> RecordDict:
    """Returns the state that :func:`freeze` took."""
    record = inflate_object_from_contents(frozen[0], dict(frozen[1]))
    if not isinstance(record, RecordDict):
        raise TypeError(f"a frozen state must hold a RecordDict, got {type(record).__name__}")
    return record


def pack_weights(network: nn.Module) -> ArrayRecord:
    """Returns a network's state as arrays, on the CPU."""
    return pack_tensors(network.state_dict())


def pack_tensors(tensors: Mapping[str, Tensor]) -> ArrayRecord:
    """Returns tensors by name as arrays, on the CPU."""
    return ArrayRecord({name: tensor.cpu() for name, tensor in tensors.items()})


def unpack_weights(record: ArrayRecord, network: nn.Module) -> None:
    """Loads checked arrays into a network of the same architecture."""
    network.load_state_dict(record.to_torch_state_dict())


def check_weights(record: ArrayRecord, like: ArrayRecord) -> None:
    """Refuses all but numbers within ``LARGEST`` of the names, shapes and types of ``like``.

    Raises:
        BadUploadError: Naming the first array that breaks a rule.
    """
    if list(record) != list(like):
        raise BadUploadError(f"arrays must be {', '.join(like)}, got {', '.join(record)}")
    for name, expected in like.items():
        array = array_of(record, name)
        wanted = expected.numpy()
        if array.shape != wanted.shape or array.dtype != wanted.dtype:
            raise BadUploadError(
                f"{name} must be {wanted.dtype} of shape {wanted.shape}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all():
            raise BadUploadError(f"{name} must be finite, got NaN or infinity")
        if (np.abs(array) > LARGEST).any():
            raise BadUploadError(
                f"{name} must be in [-{LARGEST:g}, {LARGEST:g}], got {array.min():g} to "
                f"{array.max():g}"
            )


def pack_images(small: SyntheticSet) -> ArrayRecord:
    """Returns a small set as arrays; its images must be ordered by class."""
    images = small.normalisation.quantise(small.data.images)
    counts = small.data.counts.numpy().astype(np.int32)
    return ArrayRecord({"images": Array(images.cpu().numpy()), "counts": Array(counts)})


def unpack_images(
    record: ArrayRecord, normalisation: Normalisation, device: torch.device | str = "cpu"
) -> LabelledImages:
    """Returns the normalised images of a checked record, on a device."""
    counts = torch.from_numpy(record["counts"].numpy().astype(np.int64))
    images = normalisation(torch.from_numpy(record["images"].numpy().copy()))
    labels = torch.arange(len(counts)).repeat_interleave(counts)
    return LabelledImages(images, labels, len(counts)).to(device)


def check_images(
    record: ArrayRecord, image_shape: tuple[int, int, int], num_classes: int, most: int
) -> None:
    """Refuses a small set of the wrong shape, type, classes or number of images.

    Args:
        record: What arrived.
        image_shape: (C, H, W) of the task.
        num_classes: Classes of the task.
        most: Images allowed of each class.

    Raises:
        BadUploadError: Naming the rule that is broken.
    """
    if set(record) != {"images", "counts"}:
        raise BadUploadError(f"arrays must be images, counts, got {', '.join(record)}")
    counts = check_counts(record, num_classes, most)
    images = array_of(record, "images")
    wanted = (int(counts.sum()), *image_shape)
    if images.dtype != np.uint8 or images.shape != wanted or wanted[0] < 1:
        raise BadUploadError(
            f"images must be uint8 of shape {wanted} with at least one image, "
            f"got {images.dtype} of shape {images.shape}"
        )


def check_counts(record: ArrayRecord, num_classes: int, most: int) -> np.ndarray[Any, Any]:
    """Returns the images of each class that arrived, int32 ``(num_classes,)``.

    Args:
        record: What arrived.
        num_classes: Classes of the task.
        most: Images allowed of each class.

    Raises:
        BadUploadError: Naming the rule that is broken.
    """
    counts = array_of(record, "counts")
    if counts.dtype != np.int32 or counts.shape != (num_classes,):
        raise BadUploadError(
            f"counts must be int32 of shape ({num_classes},), one a class, "
            f"got {counts.dtype} of shape {counts.shape}"
        )
    if counts.min() < 0 or counts.max() > most:
        raise BadUploadError(f"counts must be in [0, {most}], got {counts.min()} to {counts.max()}")
    return counts


def check_array(
    record: ArrayRecord, name: str, dtype: str, shape: tuple[int, ...]
) -> np.ndarray[Any, Any]:
    """Returns an array that arrived, of finite numbers of the type and shape that are wanted.

    Raises:
        BadUploadError: Saying what came instead.
    """
    array = array_of(record, name)
    if array.dtype != dtype or array.shape != shape or not np.isfinite(array).all():
        raise BadUploadError(
            f"{name} must be finite {dtype} of shape {shape}, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array


def pack_distributions(rows: Tensor) -> Array:
    """Returns distributions ``(N, num_classes)`` as they are sent, in half precision."""
    return Array(rows.half().cpu().numpy())


def unpack_distributions(array: Array) -> Tensor:
    """Returns checked distributions, float32, whose rows sum to one again."""
    rows = torch.from_numpy(array.numpy().astype(np.float32))
    return rows / rows.sum(1, keepdim=True)


def check_distributions(record: ArrayRecord, name: str, rows: int, num_classes: int) -> None:
    """Refuses all but rows of numbers in [0, 1] whose sum is one, but for rounding.

    Raises:
        BadUploadError: Naming the rule that is broken.
    """
    array = check_array(record, name, "float16", (rows, num_classes))
    sums = array.sum(1, dtype=np.float32)
    if array.min() < 0 or abs(sums - 1).max() > 0.01:
        raise BadUploadError(
            f"{name} must be distributions, got numbers from {array.min():g} on and sums from "
            f"{sums.min():g} to {sums.max():g}"
        )


def pack_memory(memory: Memory) -> ArrayRecord:
    """Returns what a memory keeps, as a client's state."""
    return pack_tensors(memory.state())


def unpack_memory(record: ArrayRecord, empty: Memory) -> Memory:
    """Returns ``empty`` with what :func:`pack_memory` took."""
    return empty.restored(record.to_torch_state_dict())


def array_of(record: ArrayRecord, name: str) -> np.ndarray[Any, Any]:
    """Returns an array that arrived.

    Raises:
        BadUploadError: If there is none of the name, or its bytes are no array.
    """
    if name not in record:
        raise BadUploadError(f"arrays must hold {name}, got {', '.join(record) or 'none'}")
    try:
        array = record[name].numpy()
    except Exception as error:  # numpy reads a header as Python, which fails in many ways
        raise BadUploadError(f"{name} must be a numeric array, got bytes that aren't") from error
    if not isinstance(array, np.ndarray):  # numpy takes an archive of arrays, too
        raise BadUploadError(f"{name} must be a numeric array, got {type(array).__name__}")
    return array
