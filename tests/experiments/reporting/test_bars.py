"""Bars are the clients' accuracies, and the line is their mean."""

import numpy as np

from experiments.reporting.bars import draw_client_bars
from experiments.reporting.styles import GREY, Style

LOOKS = dict.fromkeys("abcde", Style(GREY, 0, 0))


def test_a_bar_a_client_and_their_mean():
    figure = draw_client_bars({"a": np.array([0.25, np.nan, 0.75])}, LOOKS, "")
    axes = figure.axes[0]
    assert [bar.get_height() for bar in axes.patches] == [0.25, 0.0, 0.75]
    assert list(axes.get_lines()[0].get_ydata()) == [0.5, 0.5]  # without the unscored one


def test_every_column_names_its_clients_below():
    # Five panels, four across: those above the empty places have the numbers.
    figure = draw_client_bars({label: np.array([0.5]) for label in LOOKS}, LOOKS, "")
    named = [axes.xaxis.get_tick_params()["labelbottom"] for axes in figure.axes[:5]]
    assert named == [False, True, True, True, True]
