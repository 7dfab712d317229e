"""A chart shows every mean, has its legend beside it, and comes out the same each time."""

import numpy as np

from experiments.reporting.charts import Chart, Level, Trace, byte_tick, draw_chart, second_tick
from experiments.reporting.plates import Panel
from experiments.reporting.styles import Style

RED = Style("#ff0000", 0, 0)


def trace(x, mean=0.5, half=0.0, **extra) -> Trace:
    x = np.array(x, dtype=float)
    return Trace("a", RED, x, mean + 0 * x, half + 0 * x, **extra)


def test_equal_figures_are_equal_bytes():
    charts = [Chart("x", "y", (trace([1, 2]),)) for _ in range(2)]
    first, second = (Panel("a", draw_chart(chart), "alt").svg for chart in charts)
    assert first == second


def test_points_without_an_interval_have_no_bar():
    halves = np.array([0.25, 0.0])
    axes = draw_chart(Chart("x", "y", (trace([1, 2], half=halves),))).axes[0]
    ends = [segment for bars in axes.collections for segment in bars.get_segments()]
    assert [end.tolist() for end in ends if len(end)] == [[[1, 0.25], [1, 0.75]]]


def test_axis_shows_no_accuracy_below_none_or_above_all():
    axes = draw_chart(Chart("x", "y", (trace([1, 2], half=6.0, band=True),))).axes[0]
    low, high = axes.get_ylim()
    assert -0.1 < low < 0
    assert 1 <= high < 1.01


def test_logarithmic_axis_writes_numbers_with_their_unit():
    for ticks, expected in [(byte_tick, "1 kB"), (second_tick, "1,000 s")]:
        axes = draw_chart(Chart("x", "y", (trace([100, 9000]),), ticks=ticks)).axes[0]
        assert axes.get_xscale() == "log"
        assert axes.xaxis.get_major_formatter()(1000.0, None) == expected
    assert draw_chart(Chart("x", "y", (trace([100, 9000]),))).axes[0].get_xscale() == "linear"


def test_axis_shows_means_below_zero():
    axes = draw_chart(Chart("x", "y", (trace([1, 2], mean=-0.25),))).axes[0]
    assert axes.get_ylim()[0] < -0.25


def test_legend_names_traces_and_labelled_levels_from_above():
    levels = (Level("joint", RED, 0.9), Level("", RED, 0.5))
    figure = draw_chart(Chart("x", "y", (trace([1, 2]),), levels, mark=("raw", 1.0)))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["a", "joint", "raw"]


def test_experiences_are_parted_where_they_begin():
    axes = draw_chart(Chart("x", "y", (trace([0.5, 1, 2, 3]),), experiences=3)).axes[0]
    upright = [set(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 1]
    assert upright == [{1}, {2}]
    assert [text.get_text() for text in axes.texts] == [f"experience {i}" for i in (1, 2, 3)]


def test_an_interval_goes_as_far_down_as_what_is_shown_can():
    drawn = (trace([1, 2], half=np.array([0.9, 0.9])),)
    share, difference = (
        draw_chart(Chart("x", "y", drawn, least=least)).axes[0].get_ylim()[0]
        for least in (0.0, -1.0)
    )
    assert share > -0.1
    assert difference < 0.5 - 0.9
