"""Charts: accuracy, or forgetting, over rounds, bytes or seconds, with the legend beside them."""

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from experiments.reporting.arms import FEW_SEEDS
from experiments.reporting.numbers import MINUS, bytes_text
from experiments.reporting.runs import Array
from experiments.reporting.styles import GREY, Look, Style
from fedcl.statistics import Interval

_MARK: Look = {"color": GREY, "linestyle": (0, (5, 2)), "linewidth": 1.2}


@final
@dataclass(frozen=True)
class Trace:
    """One arm of a chart.

    Attributes:
        label: Its name in the legend.
        style: Its look.
        x: Positions, ``(N,)``.
        mean: Means over seeds, ``(N,)``.
        half: Half widths of their intervals, 0 where there is none, ``(N,)``.
        band: Whether intervals are drawn as a band and not as bars.
    """

    label: str
    style: Style
    x: Array
    mean: Array
    half: Array
    band: bool = False

    @classmethod
    def through(cls, label: str, style: Style, points: Iterable[tuple[float, Interval]]) -> Self:
        """Returns a trace through points, ordered by position, with bars."""
        ordered = sorted(points, key=lambda point: point[0])
        triples = [(x, interval.mean, bar(interval)) for x, interval in ordered]
        return cls(label, style, *np.array(triples, dtype=np.float64).reshape(-1, 3).T)

    def look(self) -> Look:
        """Returns Matplotlib's arguments: a single point has no line."""
        return self.style.joined() if len(self.x) > 1 else self.style.points()


def bar(interval: Interval) -> float:
    """Returns half the width as figures draw it; 0 for few seeds, where it hides all else."""
    return 0.0 if interval.count < FEW_SEEDS else interval.half_width or 0.0


@final
@dataclass(frozen=True)
class Level:
    """A horizontal line to judge by.

    Attributes:
        label: Its name in the legend; empty for a line that only prolongs a point.
        style: Its look.
        value: Where it lies.
    """

    label: str
    style: Style
    value: float


@final
@dataclass(frozen=True)
class Chart:
    """Arms over one axis.

    Attributes:
        x_title: What the horizontal axis is.
        y_title: What the vertical axis is, a share of 1 that is shown as percent.
        traces: The arms.
        levels: Horizontal lines.
        ticks: How a logarithmic horizontal axis writes a number; None: the axis is a count.
        mark: A vertical line: what the legend says of it, and where it is.
        experiences: Experiences of a stream, each one long on a count axis.
        title: What the arms have in common, where there are other charts beside this one.
        least: The least that what is shown can be: 0 for a share, -1 for a difference of two.
    """

    x_title: str
    y_title: str
    traces: tuple[Trace, ...]
    levels: tuple[Level, ...] = ()
    ticks: Callable[[float], str] | None = None
    mark: tuple[str, float] | None = None
    experiences: int = 0
    title: str = ""
    least: float = 0.0


def draw_chart(chart: Chart) -> Figure:
    """Returns the chart with its legend outside the axes, highest last value first."""
    legend = list(_legend(chart))
    figure = Figure(figsize=(8.6, max(4.1, 0.8 + 0.3 * len(legend))), layout="constrained")
    axes = figure.add_subplot(xlabel=chart.x_title, ylabel=chart.y_title)
    axes.set_title(chart.title, loc="left")
    for level in chart.levels:
        _draw_level(axes, level)
    for trace in chart.traces:
        _draw_trace(axes, trace)
    if chart.mark:
        axes.axvline(chart.mark[1], **_MARK)
    _percent_axis(axes, chart)
    if chart.ticks:
        _log_axis(axes, chart, chart.ticks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
        _draw_experiences(axes, chart.experiences)
    figure.legend(handles=legend, loc="outside right upper")
    return figure


def _draw_level(axes: Axes, level: Level) -> None:
    thin: Look = {"color": level.style.colour, "linestyle": (0, (1, 2.5)), "linewidth": 1.1}
    look = level.style.bare() if level.label else {**thin, "alpha": 0.8}
    axes.axhline(level.value, zorder=1.5, **look)


def _draw_trace(axes: Axes, trace: Trace) -> None:
    if not trace.band:
        half = np.where(trace.half > 0, trace.half, np.nan)  # no caps without a bar
        axes.errorbar(trace.x, trace.mean, yerr=half, zorder=3, elinewidth=1.3, **trace.look())
        return
    low, high = trace.mean - trace.half, trace.mean + trace.half
    axes.fill_between(trace.x, low, high, color=trace.style.colour, alpha=0.14, linewidth=0)
    marked = list(range(len(trace.x) - 1, -1, -math.ceil(len(trace.x) / 8)))
    axes.plot(trace.x, trace.mean, markevery=marked, **trace.style.joined())


def _percent_axis(axes: Axes, chart: Chart) -> None:
    """Shows every mean; an interval no further than it can go, to 1 above."""
    ends = [y for t in chart.traces for y in t.mean] + [level.value for level in chart.levels]
    ends += [max(y, chart.least) for t in chart.traces for y in t.mean - t.half]
    ends += [min(y, 1.0) for t in chart.traces for y in t.mean + t.half]
    low, high = min(ends), max(ends)
    pad = max(0.06 * (high - low), 0.01)
    axes.set_ylim(low - pad, min(high + pad, 1.004))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))


def _log_axis(axes: Axes, chart: Chart, ticks: Callable[[float], str]) -> None:
    x = [x for trace in chart.traces for x in trace.x]
    x += [chart.mark[1]] if chart.mark else []
    low, high = min(x), max(x)
    steps = (1.0,) if high / low > 160 else (1.0, 2.0, 5.0)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.8, high * 1.8)
    axes.xaxis.set_major_locator(LogLocator(10, subs=steps, numticks=12))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: ticks(x)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def byte_tick(x: float) -> str:
    """Returns bytes as an axis writes them."""
    number, unit = bytes_text(x).split()
    return f"{float(number):g} {unit}"


def second_tick(x: float) -> str:
    """Returns seconds as an axis writes them.

    >>> second_tick(0.1), second_tick(20000.0)
    ('0.1 s', '20,000 s')
    """
    return f"{x:,.12g} s"


def percent_tick(y: float, _: object = None) -> str:
    """Returns a share as an axis writes it, in percent."""
    return f"{100 * y:.4g} %".replace("-", MINUS)


def _draw_experiences(axes: Axes, count: int) -> None:
    place: Look = {"xytext": (4, 3), "textcoords": "offset points", "fontsize": 8.5}
    if count:
        axes.set_xlim(left=0)
    for i in range(count):
        if i:
            axes.axvline(i, color="#b5b5b5", linewidth=0.8, zorder=1)
        text = f"experience {i + 1}" if count <= 5 else f"{i + 1}"
        axes.annotate(text, (i, 1.0), xycoords=axes.get_xaxis_transform(), **place)


def _legend(chart: Chart) -> Iterator[Line2D]:
    for trace in sorted(chart.traces, key=lambda trace: -float(trace.mean[-1])):
        yield Line2D([], [], label=wrapped(trace.label), **trace.look())
    for level in sorted(chart.levels, key=lambda level: -level.value):
        if level.label:
            yield Line2D([], [], label=wrapped(level.label), **level.style.bare())
    if chart.mark:
        yield Line2D([], [], label=wrapped(chart.mark[0]), **_MARK)


def room(labels: Iterable[str], width: int) -> float:
    """Returns the inches of the highest title of a panel, its text broken by :func:`wrapped`."""
    return 0.17 * max(1 + wrapped(label, width).count("\n") for label in labels)


def wrapped(label: str, width: int = 27) -> str:
    """Breaks a label into lines between its settings, not within them."""
    parts = [part.replace(" ", "\N{NO-BREAK SPACE}") for part in label.split(" · ")]
    lines = textwrap.wrap(" · ".join(parts), width, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines)
