"""Dots stand at each method's mean, worst first, beside random real images."""

import pytest

from experiments.reporting.dots import draw_dots
from experiments.reporting.styles import Palette


def test_rows_rise_and_bars_need_three_seeds(section, three, run):
    two = [run("kmeans", seed=i, metrics={"accuracy": 0.4 + 0.2 * i}) for i in (0, 1)]
    arms = section(
        *three("dm", accuracy=[0.79, 0.8, 0.81]),
        *two,
        *three("random", accuracy=[0.3, 0.3, 0.3]),
    ).arms
    axes = draw_dots({"10 images": arms}, Palette.of(["dm", "kmeans", "random"])).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["random", "kmeans", "dm"]
    bars = {s[0, 1]: s[:, 0].tolist() for c in axes.collections for s in c.get_segments()}
    half = 0.01 * 4.302653 / 3**0.5  # Student's t, two degrees of freedom
    assert 1 not in bars
    assert bars[2] == pytest.approx([0.8 - half, 0.8 + half])
    assert axes.get_lines()[0].get_xdata() == [0.3, 0.3]
