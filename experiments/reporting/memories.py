"""Memories along a stream: what the buffer holds after each experience, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.reporting.images import MAX_CLASSES, Pixels, Stack, draw_mosaic, framed
from experiments.reporting.runs import Run
from experiments.reporting.uploads import NOTHING

FOLDER = "memories"  # of a run, with <experience>.safetensors in it, experiences from 0 on
ACROSS = 10  # images, of all experiences together
BETWEEN = 14  # pixels, between two experiences


def memories(run: Run) -> dict[int, Stack]:
    """Returns the memory after each experience, in their order; empty where none was kept.

    Of more experiences than fit beside one another, some are shown, the first and last among them.
    """
    files = {int(file.stem): file for file in (run.folder / FOLDER).glob("*.safetensors")}
    kept = sorted(files)
    places = np.linspace(0, len(kept) - 1, min(ACROSS, len(kept))).round().astype(int)
    return {kept[place]: Stack.read(files[kept[place]]) for place in places}


def draw_memories(kept: Mapping[int, Stack], title: str) -> Figure:
    """Returns a block of images for each experience, a row for each class, as they came.

    Args:
        kept: The memory after each experience.
        title: What they are.
    """
    across = max(1, ACROSS // len(kept))
    came = dict.fromkeys(int(label) for stack in kept.values() for label in stack.labels)
    classes = list(came)[:MAX_CLASSES]
    blocks = [_block(stack, classes, across) for stack in kept.values()]
    gap = np.full((len(blocks[0]), BETWEEN, 3), 255, np.uint8)
    spaced = [part for block in blocks for part in (gap, block)][1:]
    names = ", ".join(str(experience + 1) for experience in kept)
    return framed(np.concatenate(spaced, 1), f"{title}, after experiences {names}", classes)


def _block(stack: Stack, classes: Sequence[int], across: int) -> Pixels:
    """The first images of each class, grey where there are none."""
    tiles = np.full((len(classes) * across, *stack.pixels.shape[1:]), NOTHING, np.uint8)
    for row, label in enumerate(classes):
        own = stack.pixels[stack.labels == label][:across]
        tiles[row * across : row * across + len(own)] = own
    return draw_mosaic(Stack(tiles, np.repeat(classes, across)), classes)
