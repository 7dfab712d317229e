"""Heat maps write the numbers that are there and leave the others grey."""

import numpy as np

from experiments.reporting.heatmaps import draw_matrices, draw_spread


def test_matrix_cells_not_yet_learned_are_empty():
    figure = draw_matrices({"a": np.array([[0.9, 0.1], [0.5, 0.8]])})
    assert [text.get_text() for text in figure.axes[0].texts] == ["90", "50", "80"]


def test_spread_writes_the_counts_that_are_there():
    figure = draw_spread(np.array([[3.0, 0.0], [1.0, 12.0]]), "dirichlet")
    assert [text.get_text() for text in figure.axes[0].texts] == ["3", "1", "12"]


def test_large_maps_are_drawn_without_numbers():
    assert not draw_spread(np.ones((100, 100)), "iid").axes[0].texts
