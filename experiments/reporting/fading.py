"""Fading: the accuracy on each experience while later ones are learned, arms as lines."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiments.reporting.charts import percent_tick, wrapped
from experiments.reporting.runs import Array
from experiments.reporting.styles import Look, Style


@final
@dataclass(frozen=True)
class Course:
    """One arm along the stream.

    Attributes:
        label: Its name in the legend.
        style: Its look.
        bound: Whether it is a line to judge by, drawn thin.
        matrix: R[i, j], accuracy on experience j after training on i, ``(E, E)``.
    """

    label: str
    style: Style
    bound: bool
    matrix: Array

    def look(self) -> Look:
        """Returns Matplotlib's arguments."""
        return self.style.bare() if self.bound else {**self.style.joined(), "markersize": 4.5}

    def panels(self) -> Iterator[tuple[str, Array, Array]]:
        """Yields a title, the experiences after which it was measured, from 1 on, and accuracies.

        All experiences so far come first, then each of them.
        """
        R = self.matrix
        after = np.arange(1.0, len(R) + 1)
        yield "all so far", after, np.tril(R).sum(1) / after
        for j in range(len(R)):
            yield f"experience {j + 1}", after[j:], R[j:, j]


def draw_fading(courses: Sequence[Course], title: str) -> Figure:
    """Returns a panel of all experiences so far, and one of each experience.

    Args:
        courses: The arms.
        title: What they have in common.
    """
    count = 1 + max(len(course.matrix) for course in courses)
    across = math.ceil(count**0.5)
    down = math.ceil(count / across)
    height = max(0.8 + 1.75 * down, 0.8 + 0.3 * len(courses))
    figure = Figure(figsize=(2.4 + 2.0 * across, height), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[count:]:
        axes.set_axis_off()
    for course in courses:
        for axes, (name, after, accuracy) in zip(panels.flat, course.panels(), strict=False):
            axes.plot(after, accuracy, **course.look())
            axes.set_title(name, loc="left", fontsize=9)
    _scale(panels[0, 0])
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    figure.supxlabel("after experience", fontsize=10)
    figure.supylabel("test accuracy", fontsize=10)
    figure.legend(handles=_legend(courses), loc="outside right upper")
    return figure


def _scale(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(percent_tick))


def _legend(courses: Sequence[Course]) -> list[Line2D]:
    """The best at the end first."""
    ordered = sorted(courses, key=lambda course: -float(course.matrix[-1].mean()))
    return [Line2D([], [], label=wrapped(course.label), **course.look()) for course in ordered]
