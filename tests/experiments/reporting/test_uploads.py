"""Uploads by client: who sent which image of a union."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.reporting.uploads import by_client

# Two images of a class at most: client 0 sends classes 0 0 1, client 1 sends 1 1 2.
COUNTS, LABELS = [[5, 1, 0], [0, 2, 1]], [0, 0, 1, 1, 1, 2]


@pytest.fixture
def uploaded(run, tmp_path):
    """A run whose union is of images as bright as their place in it."""

    def made(labels=LABELS, **metrics):
        images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1) + np.zeros(
            (1, 1, 8, 8), np.uint8
        )
        tensors = {"images": images, "labels": np.array(labels)}
        save_file(tensors, tmp_path / "synthetic.safetensors")
        all_metrics = {"class_counts": COUNTS, "failures": 0, **metrics}
        made = run("one_shot-dm", "federated", config={"ipc": 2}, metrics=all_metrics)
        return replace(made, folder=tmp_path)

    return made


def test_the_first_image_of_each_class_of_each_client_is_shown(uploaded):
    stack = by_client(uploaded())
    assert stack.labels.tolist() == [0, 0, 0, 1, 1, 1]  # clients, a column for each of 3 classes
    assert stack.pixels[:, 0, 0, 0].tolist() == [0, 2, 240, 240, 3, 5]


@pytest.mark.parametrize(
    "run_of",
    [{"failures": 1}, {"labels": [0, 0, 1, 1, 1, 1]}, {"class_counts": None}, {"set_by": "server"}],
)
def test_what_is_no_union_of_all_clients_is_not_told_apart(uploaded, run_of):
    assert by_client(uploaded(**run_of)) is None
