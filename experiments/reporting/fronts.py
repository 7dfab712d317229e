"""The front: which arms nothing beats at their bytes or fewer, one panel for each problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, final

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.reporting.charts import bar, byte_tick, percent_tick, wrapped
from experiments.reporting.styles import INK, Look, Style
from fedcl.statistics import Interval

_FRONT: Look = {"color": INK, "linewidth": 1.3, "alpha": 0.75, "zorder": 2}
ACROSS = 2


class Standing(Protocol):
    """What an arm has sent and learnt."""

    @property
    def sent(self) -> float:
        """Bytes, mean over seeds."""
        ...

    @property
    def accuracy(self) -> Interval:
        """Mean and interval."""
        ...


_Standing = TypeVar("_Standing", bound=Standing)


@final
@dataclass(frozen=True)
class Point:
    """What an arm has sent and learnt at its end.

    Attributes:
        label: Its name in the legend.
        style: Its look.
        sent: Bytes, mean over seeds.
        accuracy: Mean and interval.
    """

    label: str
    style: Style
    sent: float
    accuracy: Interval


def front(points: Sequence[_Standing]) -> list[_Standing]:
    """Returns the arms above all that sent as much or less, from the fewest bytes on."""
    kept: list[_Standing] = []
    for point in sorted(points, key=lambda p: (p.sent, -p.accuracy.mean)):
        if not kept or point.accuracy.mean > kept[-1].accuracy.mean:
            kept.append(point)
    return kept


def draw_fronts(panels: Mapping[str, Sequence[Point]]) -> Figure:
    """Returns accuracy over bytes, a point an arm with its interval, and the front as steps.

    Args:
        panels: Points by the panel's title.
    """
    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    legend = _legend(panels)
    size = (8.6 if across == 1 else 2.6 + 4.0 * across, max(3.9 * down, 0.8 + 0.3 * len(legend)))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for unused in axes.flat[len(panels) :]:
        unused.set_axis_off()
    for place, (title, points) in zip(axes.flat, panels.items(), strict=False):
        _draw(place, points)
        place.set_title(title, loc="left")
    _scale(axes[0, 0], [point for points in panels.values() for point in points])
    figure.supxlabel("bytes sent in all, both directions (log scale)", fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    figure.legend(handles=legend, loc="outside right upper")
    return figure


def _draw(axes: Axes, points: Sequence[Point]) -> None:
    best = front(points)
    x, y = [p.sent for p in best], [p.accuracy.mean for p in best]
    end = 3 * max(point.sent for point in points)
    axes.plot([*x, end], [*y, y[-1]], drawstyle="steps-post", **_FRONT)
    for point in points:
        half = bar(point.accuracy) or None  # no caps without a bar
        look = point.style.points() | ({} if point in best else {"alpha": 0.6})
        axes.errorbar(point.sent, point.accuracy.mean, yerr=half, elinewidth=1.2, zorder=3, **look)


def _scale(axes: Axes, points: Sequence[Point]) -> None:
    low, high = min(p.sent for p in points), max(p.sent for p in points)
    ends = [p.accuracy.mean + s * bar(p.accuracy) for p in points for s in (-1, 1)]
    axes.set_xscale("log")
    axes.set_xlim(low / 1.8, high * 1.8)
    axes.xaxis.set_major_locator(LogLocator(10, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: byte_tick(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(max(min(ends), 0.0) - 0.02, min(max(ends), 1.0) + 0.02)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))


def _legend(panels: Mapping[str, Sequence[Point]]) -> list[Line2D]:
    """An entry for each label, the best accuracy of any panel first."""
    points = sorted((p for row in panels.values() for p in row), key=lambda p: -p.accuracy.mean)
    looks = {point.label: point.style for point in reversed(points)}
    lines = [Line2D([], [], label="Pareto front", **_FRONT)]
    return lines + [
        Line2D([], [], label=wrapped(label), **looks[label].points())
        for label in dict.fromkeys(point.label for point in points)
    ]
