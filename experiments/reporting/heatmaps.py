"""Heat maps: accuracy matrices of a stream, and how classes are spread over clients."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.reporting.charts import percent_tick, room, wrapped
from experiments.reporting.runs import Array
from experiments.reporting.styles import INK, Look

MAX_ACROSS = 4
MAX_TICKS = 20
MAX_ANNOTATED = 12
TITLE = 24  # letters of a line


@final
@dataclass(frozen=True)
class Cells:
    """A heat map's numbers.

    Attributes:
        values: The numbers, masked where a cell stays grey, ``(rows, columns)``.
        top: The number at the dark end of the scale, > 0.
        first: The number of the first row and column.
        scale: What numbers are multiplied with where they are written out.
    """

    values: Any
    top: float
    first: int = 0
    scale: float = 1.0


def draw_matrices(matrices: Mapping[str, Array]) -> Figure:
    """Returns accuracy matrices as small multiples, experiences not yet seen in grey.

    Args:
        matrices: R[i, j], accuracy on experience j after training on i, by arm, ``(E, E)``.
    """
    down = math.ceil(len(matrices) / MAX_ACROSS)
    across = math.ceil(len(matrices) / down)
    high = 2.4 + room(matrices, TITLE)
    figure = Figure(figsize=(0.9 + 2.1 * across, high * down + 0.2), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False)
    for axes in panels.flat[len(matrices) :]:
        axes.set_axis_off()
    for axes, (label, matrix) in zip(panels.flat, matrices.items(), strict=False):
        seen = np.ma.masked_where(np.tri(len(matrix)) == 0, matrix)
        mesh = _draw_cells(axes, Cells(seen, 1.0, first=1, scale=100))
        axes.set_title(wrapped(label, TITLE), loc="left", fontsize=9)
        axes.set_aspect("equal")
    for axes in panels[:, 0]:
        axes.set_ylabel("after experience")
    for axes in panels[-1, :]:
        axes.set_xlabel("accuracy on experience")
    tick = FuncFormatter(percent_tick)
    bar = figure.colorbar(mesh, ax=panels, shrink=0.8, aspect=28, format=tick)
    bar.outline.set_visible(False)
    return figure


def draw_spread(counts: Array, title: str) -> Figure:
    """Returns how many images of each class each client holds.

    Args:
        counts: Images, ``(clients, classes)``.
        title: What the division is.
    """
    clients, classes = counts.shape
    size = (min(8.6, 1.9 + 0.46 * classes), min(9.0, 1.3 + 0.3 * clients))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.add_subplot(xlabel="class", ylabel="client")
    held = np.ma.masked_less_equal(counts, 0)
    mesh = _draw_cells(axes, Cells(held, float(counts.max())))
    axes.set_title(title, loc="left")
    bar = figure.colorbar(mesh, ax=axes, aspect=28, shrink=0.9, label="images")
    bar.outline.set_visible(False)
    return figure


def _draw_cells(axes: Axes, cells: Cells) -> Any:
    """Draws a matrix from its first row down, and its numbers where they can be read."""
    colours = mpl.colormaps["Blues"].with_extremes(bad="#e4e4e4")
    look: Look = {"cmap": colours, "vmin": 0.0, "vmax": cells.top, "edgecolors": "white"}
    mesh = axes.pcolormesh(cells.values, linewidth=0.8 if cells.values.size < 999 else 0, **look)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    rows, columns = cells.values.shape
    axes.set_xticks(*_numbers(columns, cells.first))
    axes.set_yticks(*_numbers(rows, cells.first))
    if max(rows, columns) <= MAX_ANNOTATED:
        _write_numbers(axes, cells)
    return mesh


def _write_numbers(axes: Axes, cells: Cells) -> None:
    place: Look = {"ha": "center", "va": "center", "fontsize": 8}
    for i, j in np.argwhere(~np.ma.getmaskarray(cells.values)):
        x = cells.values[i, j]
        ink = "white" if x > 0.6 * cells.top else INK
        axes.text(j + 0.5, i + 0.5, f"{cells.scale * x:.0f}", color=ink, **place)


def _numbers(count: int, first: int) -> tuple[list[float], list[str]]:
    """Ticks in the middle of at most MAX_TICKS cells, and their numbers."""
    shown = range(0, count, math.ceil(count / MAX_TICKS))
    return [i + 0.5 for i in shown], [str(i + first) for i in shown]
