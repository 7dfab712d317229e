"""A synthetic set: what distilling leaves, how many bytes it takes, and its file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from distill.checks import one_of
from distill.images import STORES, LabelledImages, Normalisation, Store, stored_bytes

Origin = Literal["real", "noise"]
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
    """

    data: LabelledImages
    normalisation: Normalisation
    origin: Origin

    def __post_init__(self) -> None:
        one_of("origin", self.origin, ("real", "noise"))

    def __len__(self) -> int:
        return len(self.data)

    def storage_bytes(self, store: Store) -> int:
        """Returns the bytes of images and labels in a store, one byte a label."""
        return stored_bytes(len(self), self.data.image_shape, store)

    def stored(self, store: Store) -> Self:
        """Returns the set as it comes back from a store: rounded, for uint8.

        Raises:
            ValueError: If the store is unknown.
        """
        one_of("store", store, STORES)
        if store == "float32":
            return self
        images = self.normalisation(self.normalisation.quantise(self.data.images))
        data = LabelledImages(images, self.data.labels, self.data.num_classes)
        return type(self)(data, self.normalisation, self.origin)

    def save(self, path: Path, store: Store) -> None:
        """Writes a safetensors file: ``images``, ``labels``, and metadata as JSON strings."""
        one_of("store", store, STORES)
        images = self.data.images
        if store == "uint8":
            images = self.normalisation.quantise(images)
        tensors = {"images": images.contiguous(), "labels": self.data.labels.contiguous()}
        save_file(tensors, path, self._metadata())

    def state(self) -> dict[str, Any]:
        """Returns the set as tensors and plain values, for a checkpoint."""
        return {"images": self.data.images, "labels": self.data.labels, **self._metadata()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Returns the set that :meth:`state` took."""
        known = {key: json.loads(state[key]) for key in METADATA}
        normalisation = Normalisation(known["mean"], known["std"])
        images = state["images"]
        if images.dtype == torch.uint8:
            images = normalisation(images)
        data = LabelledImages(images, state["labels"], known["num_classes"])
        return cls(data, normalisation, known["origin"])

    def _metadata(self) -> dict[str, str]:
        return {
            "num_classes": json.dumps(self.data.num_classes),
            "mean": json.dumps(self.normalisation.mean),
            "std": json.dumps(self.normalisation.std),
            "origin": json.dumps(self.origin),
        }

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what :meth:`save` wrote.

        Raises:
            ValueError: If the file lacks a tensor or a metadata key, or its values are bad.
        """
        with safe_open(path, "pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            missing = ({"images", "labels"} - set(file.keys())) | (METADATA - set(metadata))
            if missing:
                raise ValueError(f"{path} must hold {', '.join(sorted(missing))}, got none")
            tensors = {name: file.get_tensor(name) for name in ("images", "labels")}
        return cls.from_state({**metadata, **tensors})
