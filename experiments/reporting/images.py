"""Image grids: what a method keeps, uploads or stores, a row for each class."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast, final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from safetensors import safe_open

from experiments.reporting.arms import Arm
from experiments.reporting.charts import room, wrapped
from experiments.reporting.plates import PNG_DPI, Panel, Plate
from experiments.reporting.sections import Section, slug
from experiments.reporting.styles import Look

Pixels = NDArray[np.uint8]

MAX_PER_CLASS = 10
MAX_CLASSES = 20
TILE, GAP = 48, 3  # pixels: about what an image takes, and between two
LETTER = 0.078  # inches, the mean width of a letter of a title


@final
@dataclass(frozen=True)
class Stack:
    """Images to look at.

    Attributes:
        pixels: Grey or red, green and blue, ``(N, H, W, 1 or 3)``.
        labels: Their classes, ``(N,)``.
    """

    pixels: Pixels
    labels: NDArray[np.int64]

    @property
    def classes(self) -> list[int]:
        """The classes that have an image, ascending, at most MAX_CLASSES."""
        return sorted({int(label) for label in self.labels})[:MAX_CLASSES]

    @classmethod
    def of(cls, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Self:
        """Returns uint8 images ``(N, C, H, W)`` as a stack."""
        return cls(as_pixels(images, {}), labels)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Returns the images in a safetensors file of a run, decoded where they are a code."""
        with safe_open(file, framework="numpy") as tensors:
            metadata, labels = tensors.metadata() or {}, tensors.get_tensor("labels")
            if "parameterisation" not in metadata:
                return cls(as_pixels(tensors.get_tensor("images"), metadata), labels)
        from distill.synthetic import SyntheticSet  # brings torch, which no other file needs

        images = SyntheticSet.load(file).data.images.numpy()
        return cls(as_pixels(images, metadata), labels)


def as_pixels(images: NDArray[Any], metadata: Mapping[str, str]) -> Pixels:
    """Returns images as uint8 ``(N, H, W, 1 or 3)``.

    Args:
        images: uint8, or normalised float32, ``(N, C, H, W)``.
        metadata: "mean" and "std" of each channel as JSON lists, where images are float32.
    """
    if images.dtype != np.uint8:
        mean, std = (
            np.reshape(json.loads(metadata[key]), (1, -1, 1, 1)) for key in ("mean", "std")
        )
        images = (255 * (images * std + mean)).round().clip(0, 255).astype(np.uint8)
    channels = images if images.shape[1] in {1, 3} else images[:, :1]
    return cast(Pixels, channels.transpose(0, 2, 3, 1))


def gallery(
    section: Section, arms: Sequence[Arm], title: str, caption: str, without: Sequence[str] = ()
) -> list[Plate]:
    """Returns the images of each arm's first seed, after real ones; none where none were kept.

    Args:
        section: Where the arms are from.
        arms: Whose images to show.
        title: The plate's heading.
        caption: What to look at.
        without: Settings that the heading says, so that the titles of grids leave them out.
    """
    kept = [arm for arm in arms if (arm.runs[0].folder / "synthetic.safetensors").is_file()]
    if not kept:
        return []
    stacks = {"real images": Stack.read(kept[0].runs[0].folder / "real.safetensors")}
    titles = {"real images": "real images"}
    for arm in kept:
        stacks[arm.label] = Stack.read(arm.runs[0].folder / "synthetic.safetensors")
        titles[arm.label] = arm.label_without(*without)
    classes = sorted({int(c) for stack in stacks.values() for c in stack.labels})[:MAX_CLASSES]
    panels = tuple(
        Panel(
            f"{section.slug}-images-{slug(label)}",
            draw_images(stack, titles[label], classes),
            f"{title}: {label}, one row of images for each of the classes {classes}.",
            vector=False,
        )
        for label, stack in stacks.items()
    )
    return [Plate(title, f"{caption} Real images stand first.", panels)]


def draw_images(stack: Stack, title: str, classes: Sequence[int]) -> Figure:
    """Returns a grid of images, a row for each class, at most MAX_PER_CLASS a row.

    Every pixel of an image becomes a square of whole pixels, so nothing is blurred.

    Args:
        stack: The images.
        title: Broken into lines of the grid's width, or of 16 letters over a narrow one.
        classes: The classes of the rows, from above.
    """
    return framed(draw_mosaic(stack, classes), title, classes)


def framed(mosaic: Pixels, title: str, classes: Sequence[int]) -> Figure:
    """Returns a mosaic of a row for each class with its title and the names of the classes."""
    high, wide = (side / PNG_DPI for side in mosaic.shape[:2])
    left, rim = 0.28, 0.06
    letters = max(int(wide / LETTER), 16)
    text, top = wrapped(title, letters), max(0.44, 0.12 + room([title], letters))
    across = max(wide, LETTER * max(map(len, text.splitlines())))
    width, height = left + across + rim, top + high + rim
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((left / width, rim / height, wide / width, high / height))
    axes.imshow(mosaic, interpolation="nearest", aspect="auto")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    step = mosaic.shape[0] / len(classes)
    axes.set_xticks([])
    axes.set_yticks([(i + 0.5) * step - 0.5 for i in range(len(classes))], map(str, classes))
    axes.tick_params(length=0, labelsize=8.5)
    place: Look = {"ha": "left", "va": "bottom", "fontsize": 9, "linespacing": 1.15}
    figure.text(left / width, 1 - (top - 0.06) / height, text, **place)
    return figure


def draw_mosaic(stack: Stack, classes: Sequence[int]) -> Pixels:
    """Returns one image of all images with GAP pixels between them, ``(H, W, 3)``."""
    rows = [stack.pixels[stack.labels == label][:MAX_PER_CLASS] for label in classes]
    across = max(1, *map(len, rows))
    k = max(1, round(TILE / stack.pixels.shape[2]))
    high, wide = (k * side + GAP for side in stack.pixels.shape[1:3])
    canvas = np.full((len(rows) * high, across * wide, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j in range(across):
            tile = row[j].repeat(k, 0).repeat(k, 1) if j < len(row) else np.uint8(240)
            y, x = i * high, j * wide
            canvas[y : y + high - GAP, x : x + wide - GAP] = tile
    return canvas
