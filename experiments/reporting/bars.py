"""Bars: what the global network is worth to each client, one panel for each arm."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.reporting.charts import percent_tick, room, wrapped
from experiments.reporting.runs import Array
from experiments.reporting.styles import INK, Style

ACROSS = 4
MAX_TICKS = 10
TITLE = 28  # letters of a line
LETTER = 0.087  # inches, the mean width of a letter above all panels


def draw_client_bars(
    accuracies: Mapping[str, Array], looks: Mapping[str, Style], title: str
) -> Figure:
    """Returns a bar a client in its own panel for each arm, with the clients' mean as a line.

    Args:
        accuracies: In [0, 1] by label, ``(clients,)``; NaN where a client was not scored.
        looks: The look of each label.
        title: What the clients have in common.
    """
    across = min(ACROSS, len(accuracies))
    down = -(-len(accuracies) // across)
    wide = 0.7 + 2.1 * across
    title = wrapped(title, int(wide / LETTER))
    size = (wide, 0.4 + room([title], TITLE) + (1.3 + room(accuracies, TITLE)) * down)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(accuracies) :]:
        axes.set_axis_off()
    for axes, (label, values) in zip(panels.flat, accuracies.items(), strict=False):
        axes.bar(range(len(values)), np.nan_to_num(values), 0.8, color=looks[label].colour)
        axes.axhline(float(np.nanmean(values)), color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
        axes.set_title(wrapped(label, TITLE), loc="left", fontsize=8.5)
        axes.grid(visible=False, axis="x")
        axes.set_xticks(range(0, len(values), -(-len(values) // MAX_TICKS)))
    for axes in panels.flat[max(0, len(accuracies) - across) : len(accuracies)]:
        axes.tick_params(labelbottom=True)
    panels[0, 0].set_ylim(0, 1)
    panels[0, 0].yaxis.set_major_formatter(FuncFormatter(percent_tick))
    figure.supxlabel("client", fontsize=10)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return figure
