"""A synthetic set: what distilling leaves, how many bytes it takes, and its file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from distill.checks import one_of
from distill.images import LabelledImages, Normalisation, stored_bytes
from distill.parameterisations.base import Code
from distill.parameterisations.described import describe, rebuild
from distill.stores import RANGE_BYTES, itemsize, pack, unpack

Origin = Literal["real", "noise"]
CLASS_BYTES = 4  # of a class of a code: its number, and that of its images
METADATA = {"num_classes", "mean", "std", "origin"}


@final
@dataclass(frozen=True)
class SyntheticSet:
    """A small labelled set that stands for a large one.

    Attributes:
        data: Normalised float32 images with hard labels, ordered by class.
        normalisation: The map between those images and pixels in [0, 1].
        origin: ``real`` if any image is a real one, started from one or averages some;
            such images say something about single records of the data.
        code: The numbers that the images are decoded from; None: they are kept as pixels.
        rates: The step sizes that were learned for training on them, in order; none: empty.
    """

    data: LabelledImages
    normalisation: Normalisation
    origin: Origin
    code: Code | None = None
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of("origin", self.origin, ("real", "noise"))

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device | str) -> Self:
        """Returns the same set on a device."""
        code = None if self.code is None else self.code.to(device)
        return replace(self, data=self.data.to(device), code=code)

    @property
    def given_bytes(self) -> int:
        """The bytes of what decodes the set but was not learned for it, a generator, as float32."""
        return 0 if self.code is None else self.code.given_numbers * itemsize("float32")

    def storage_bytes(self, store: str) -> int:
        """Returns the bytes of the set's own numbers, labels and step sizes in a store.

        Pixels take a label of one byte an image; a code takes four bytes for each class that it
        has, which it is and how many images; learned labels take a number a class and image
        besides, and learned step sizes four bytes each in any store.

        Raises:
            ValueError: If the store is unknown.
        """
        size, targets = itemsize(store), self.data.targets
        a_range = RANGE_BYTES if store == "uint8" else 0
        soft = 0 if targets is None else targets.numel() * size + a_range
        if self.code is None:
            images = stored_bytes(len(self), self.data.image_shape, store)
        else:
            numbers = self.code.numbers * size + a_range * len(self.code.learned)
            images = numbers + CLASS_BYTES * int(self.code.counts.count_nonzero())
        return images + soft + itemsize("float32") * len(self.rates)

    def stored(self, store: str) -> Self:
        """Returns the set as it comes back from a store: rounded, for all but float32.

        Raises:
            ValueError: If the store is unknown.
        """
        return self.from_state({**self._tensors(store), **self._metadata()})

    def save(self, path: Path, store: str) -> None:
        """Writes a safetensors file: numbers, labels, and metadata as JSON strings."""
        save_file(self._tensors(store), path, self._metadata())

    def state(self) -> dict[str, Any]:
        """Returns the set as tensors and plain values, for a checkpoint."""
        return {**self._tensors("float32"), **self._metadata()}

    def _tensors(self, store: str) -> dict[str, Tensor]:
        itemsize(store)
        tensors = {"labels": self.data.labels.cpu().contiguous()}
        if self.code is None:
            tensors["images"] = self._packed_images(store)
        else:
            for name, numbers in self.code.parameters.items():
                kept = pack(numbers, store if self.code.is_learned(name) else "float32")
                tensors |= {f"code/{name}/{part}": value for part, value in kept.items()}
        if self.data.targets is not None:
            kept = pack(self.data.targets, store)
            tensors |= {f"targets/{part}": value for part, value in kept.items()}
        return {name: value.cpu().contiguous() for name, value in tensors.items()}

    def _packed_images(self, store: str) -> Tensor:
        if store == "uint8":
            return self.normalisation.quantise(self.data.images)
        return pack(self.data.images, store)["numbers"]

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Returns the set that :meth:`state` took."""
        known = {key: json.loads(state[key]) for key in METADATA}
        normalisation = Normalisation(known["mean"], known["std"])
        labels, num_classes = state["labels"], known["num_classes"]
        code = _code(state, torch.bincount(labels, minlength=num_classes))
        images = state["images"] if code is None else code.decode(torch.arange(len(labels)))
        images = normalisation(images) if images.dtype == torch.uint8 else images.float()
        packed = _packed(state, "targets/")
        targets = unpack(packed) if packed else None
        data = LabelledImages(images, labels, num_classes, targets)
        rates = tuple(json.loads(state.get("rates", "[]")))
        return cls(data, normalisation, known["origin"], code, rates)

    def _metadata(self) -> dict[str, str]:
        values: dict[str, Any] = {
            "num_classes": self.data.num_classes,
            "mean": self.normalisation.mean,
            "std": self.normalisation.std,
            "origin": self.origin,
        }
        if self.rates:
            values["rates"] = self.rates
        if self.code is not None:
            values["parameterisation"] = describe(self.code.parameterisation)
            values["image_shape"] = self.code.image_shape
        return {name: json.dumps(value) for name, value in values.items()}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: If the file is cut short, lacks a tensor or a metadata key, or its values
                are bad.
        """
        try:
            opened = safe_open(path, "pt")
        except SafetensorError as error:
            raise ValueError(f"{path} must be a whole safetensors file, got {error}") from error
        with opened as file:
            metadata: dict[str, str] = file.metadata() or {}
            needed, described = {"labels", "images"}, METADATA
            if "parameterisation" in metadata:
                needed, described = {"labels"}, METADATA | {"image_shape"}
            missing = (needed - set(file.keys())) | (described - set(metadata))
            if missing:
                raise ValueError(f"{path} must hold {', '.join(sorted(missing))}, got none")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return cls.from_state({**metadata, **tensors})


def _code(state: Mapping[str, Any], counts: Tensor) -> Code | None:
    if "parameterisation" not in state:
        return None
    names = sorted({key.split("/")[1] for key in state if key.startswith("code/")})
    parameters = {name: unpack(_packed(state, f"code/{name}/")) for name in names}
    parameterisation = rebuild(json.loads(state["parameterisation"]))
    return Code(parameterisation, parameters, counts, tuple(json.loads(state["image_shape"])))


def _packed(state: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
