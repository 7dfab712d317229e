"""The front is what nothing beats with as many bytes or fewer."""

from matplotlib.lines import Line2D

from experiments.reporting.fronts import Point, draw_fronts, front
from experiments.reporting.styles import GREY, Style
from fedcl.statistics import Interval


def point(label: str, sent: float, accuracy: float) -> Point:
    return Point(label, Style(GREY, 0, 0), sent, Interval(accuracy, 0.01, 3))


POINTS = [
    point("dear", 900, 0.8),
    point("worse at the same bytes", 10, 0.2),
    point("cheap", 10, 0.3),
    point("beaten by a cheaper one", 50, 0.3),
    point("good", 100, 0.9),
]


def test_the_front_rises_with_the_bytes():
    assert [p.label for p in front(POINTS)] == ["cheap", "good"]


def test_the_line_takes_its_steps_at_the_bytes_of_the_front():
    axes = draw_fronts({"": POINTS}).axes[0]
    (line,) = [x for x in axes.get_lines() if isinstance(x, Line2D) and len(x.get_xdata()) == 3]
    assert list(line.get_xdata()) == [10, 100, 2700]  # on, beyond the last point
    assert list(line.get_ydata()) == [0.3, 0.9, 0.9]
    assert line.get_drawstyle() == "steps-post"


def test_two_seeds_have_no_bar_and_widen_no_axis():
    style = Style(GREY, 0, 0)
    points = [Point("two", style, 10, Interval(0.5, 0.4, 2))]
    points += [Point("three", style, 20, Interval(0.6, 0.1, 3))]
    axes = draw_fronts({"": points}).axes[0]
    bars = [bar.get_segments()[0][:, 1].tolist() for bar in axes.collections]
    assert bars == [[0.5, 0.7]]
    assert axes.get_ylim() == (0.48, 0.72)


def test_panels_share_axes_and_one_legend():
    figure = draw_fronts({"a": POINTS[:2], "b": POINTS[2:], "c": POINTS[:1]})
    shown = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in shown] == ["a", "b", "c"]
    assert len({axes.get_xlim() for axes in shown}) == len({axes.get_ylim() for axes in shown}) == 1
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][:2] == [
        "Pareto front",
        "good",
    ]
