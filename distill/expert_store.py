"""Experts on disk: a file for each, which says what it is an expert of.

``<folder>/<number>.safetensors`` holds the weights at the start and after every epoch, named
``<epoch>/<weight>``, and as metadata whatever decides them: architecture, recipe, seed and a
digest of the images. So a later run that wants the same experts finds them, and one that
wants others is told in what they differ.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from safetensors.torch import save_file
from torch import Tensor

from distill.images import LabelledImages
from distill.tensor_file import read_tensors

Point = dict[str, Tensor]


@final
@dataclass(frozen=True)
class ExpertStore:
    """A folder of experts of one kind.

    Attributes:
        folder: Where the files are; made when the first one is written.
        facts: What decides the weights, by the name of what a user may change.
    """

    folder: Path
    facts: Mapping[str, str]

    def path(self, number: int) -> Path:
        """Returns the file of an expert, whether or not it is there."""
        return self.folder / f"{number}.safetensors"

    def save(self, number: int, points: Sequence[Point]) -> None:
        """Writes the weights of an expert at its start and after every epoch, atomically."""
        tensors = {
            f"{epoch}/{name}": weight.detach().cpu().contiguous()
            for epoch, point in enumerate(points)
            for name, weight in point.items()
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        part = self.path(number).with_suffix(f".{os.getpid()}.part")
        save_file(tensors, part, dict(self.facts))
        part.replace(self.path(number))

    def load(self, number: int, start: Point, epochs: int) -> list[Point]:
        """Returns the weights of an expert at its start and after each of so many epochs.

        Args:
            number: Which one.
            start: Weights of its architecture, on the device where its own are wanted.
            epochs: Epochs wanted, >= 1; the file may hold more.

        Raises:
            ValueError: If the file is of another expert, or lacks an epoch or a weight.
        """
        path = self.path(number)
        tensors, metadata = read_tensors("experts.folder", path)
        for name, wanted in self.facts.items():
            found = metadata.get(name, "what it doesn't say")
            if found != wanted:
                raise ValueError(
                    f"{name} must be {found}, as in {path}, got {wanted}; take that, or name "
                    "another experts.folder"
                )
        kept = len({name.partition("/")[0] for name in tensors}) - 1
        if kept < epochs:
            raise ValueError(
                f"experts.epochs must be <= {kept}, as in {path}, got {epochs}; take that, or "
                "name another experts.folder"
            )
        return [_point(path, tensors, epoch, start) for epoch in range(epochs + 1)]


def described(images: LabelledImages) -> str:
    """Returns what images are in a few words and a digest that changes with any pixel or label."""
    digest = hashlib.sha256()
    for tensor in (images.images, images.labels):
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    shape = "x".join(map(str, images.image_shape))
    return (
        f"{len(images)} images of {shape} in {images.num_classes} classes "
        f"(SHA-256 {digest.hexdigest()[:12]})"
    )


def _point(path: Path, tensors: Mapping[str, Tensor], epoch: int, start: Point) -> Point:
    point = {}
    for name, like in start.items():
        weight = tensors.get(f"{epoch}/{name}")
        found = None if weight is None else tuple(weight.shape)
        if weight is None or found != tuple(like.shape):
            raise ValueError(
                f"experts.folder must hold weights {name} of shape {tuple(like.shape)} for epoch "
                f"{epoch}, got {found} in {path}; delete the file"
            )
        point[name] = weight.to(like)
    return point
