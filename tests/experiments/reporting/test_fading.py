"""Fading shows the columns of the accuracy matrix, and the mean of what was seen so far."""

import numpy as np

from experiments.reporting.fading import Course, draw_fading
from experiments.reporting.styles import Style

R = np.array([[0.9, 0.1, 0.0], [0.5, 0.8, 0.2], [0.25, 0.5, 0.75]])
RED = Style("#ff0000", 0, 0)


def test_panels_are_all_so_far_and_the_columns_from_the_diagonal_on():
    # So far: 0.9, (0.5 + 0.8) / 2, (0.25 + 0.5 + 0.75) / 3.
    panels = list(Course("dm", RED, False, R).panels())
    assert [name for name, _, _ in panels] == [
        "all so far",
        "experience 1",
        "experience 2",
        "experience 3",
    ]
    expected = [[0.9, 0.65, 0.5], [0.9, 0.5, 0.25], [0.8, 0.5], [0.75]]
    for (_, after, accuracy), values in zip(panels, expected, strict=True):
        np.testing.assert_allclose(accuracy, values)
        assert after[-1] == 3
        assert len(after) == len(values)


def test_every_arm_has_a_line_in_every_panel_and_bounds_are_thin():
    courses = [Course("dm", RED, False, R), Course("naive", RED, True, R / 2)]
    axes = draw_fading(courses, "buffers of 650 B").axes
    assert [len(a.lines) for a in axes] == [2, 2, 2, 2]
    assert axes[0].lines[1].get_linewidth() < axes[0].lines[0].get_linewidth()


def test_the_best_at_the_end_stands_first_in_the_legend():
    courses = [Course("worse", RED, False, R / 2), Course("better", RED, False, R)]
    (legend,) = draw_fading(courses, "").legends
    assert [text.get_text() for text in legend.get_texts()] == ["better", "worse"]
