"""Dots: the accuracy of each method beside random real images, one panel for each size."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.reporting.arms import Arm
from experiments.reporting.charts import bar, percent_tick
from experiments.reporting.styles import DOTS, GREY, Palette, Style


def draw_dots(arms: Mapping[str, Sequence[Arm]], palette: Palette) -> Figure:
    """Returns accuracy by method, one panel for each size, random images as the line.

    Args:
        arms: Arms by the panel's title.
        palette: The looks.
    """
    names = _names_by_accuracy(arms)
    size = (min(8.6, 2.4 + 2.9 * len(arms)), 1.2 + 0.36 * len(names))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(wspace=0.1))
    panels = figure.subplots(1, len(arms), sharey=True, squeeze=False)[0]
    for axes, (title, rivals) in zip(panels, arms.items(), strict=True):
        looks = palette.of_arms(rivals, "ipc")
        _draw_reference(axes, rivals)
        for arm in rivals:
            name = arm.label_without("ipc")
            _draw_dot(axes, arm, names.index(name), looks[name])
        axes.set_title(title, loc="left")
        axes.xaxis.set_major_formatter(FuncFormatter(percent_tick))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(-0.6, len(names) - 0.4)
    figure.supxlabel("test accuracy", fontsize=10)
    return figure


def _names_by_accuracy(arms: Mapping[str, Sequence[Arm]]) -> list[str]:
    """The names, worst first at the largest size."""
    best: dict[str, float] = {}
    for rivals in arms.values():
        best |= {arm.label_without("ipc"): arm.mean("accuracy") or 0.0 for arm in rivals}
    return sorted(best, key=lambda name: best[name])


def _draw_reference(axes: Axes, arms: Sequence[Arm]) -> None:
    own = [arm.mean("accuracy") for arm in arms if arm.method == "random"]
    if known := [x for x in own if x is not None]:
        axes.axvline(sum(known) / len(known), color=GREY, linewidth=1.2, linestyle=DOTS)


def _draw_dot(axes: Axes, arm: Arm, row: int, style: Style) -> None:
    accuracy, random = arm.interval("accuracy"), arm.mean("random_accuracy")
    if random is not None and arm.method != "random":
        axes.plot(random, row, marker="|", color=GREY, markersize=13, markeredgewidth=2)
    if accuracy:
        half = bar(accuracy) or None  # no caps without a bar
        axes.errorbar(accuracy.mean, row, xerr=half, elinewidth=1.3, zorder=3, **style.points())
