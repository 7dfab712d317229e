"""The memories of a stream stand side by side, a row for each class as it was learned."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from experiments.reporting.figures import plates
from experiments.reporting.memories import ACROSS, BETWEEN, draw_memories, memories
from experiments.reporting.styles import Palette

SIDE = 48 + 3  # of a tile with its gap


@pytest.fixture
def kept(run, tmp_path):
    """Returns what makes a run whose memories hold such labels, images ten times as bright."""

    def made(*labels):
        (tmp_path / "memories").mkdir()
        for experience, held in enumerate(labels):
            images = np.array(held, np.uint8).reshape(-1, 1, 1, 1) * np.full(
                (1, 8, 8), 10, np.uint8
            )
            tensors = {"images": images, "labels": np.array(held)}
            save_file(tensors, tmp_path / "memories" / f"{experience}.safetensors")
        return replace(run("replay-dm", "continual"), folder=tmp_path)

    return made


def test_blocks_are_experiences_and_rows_are_classes_as_they_were_learned(kept):
    # Two experiences: five images across in each; class 3 comes first and loses an image.
    held = memories(kept([3, 3], [1, 3]))
    mosaic = draw_memories(held, "dm").axes[0].images[0].get_array()
    assert mosaic.shape == (2 * SIDE, 2 * 5 * SIDE + BETWEEN, 3)
    second = 5 * SIDE + BETWEEN
    assert mosaic[0, [0, SIDE, 2 * SIDE, second, second + SIDE], 0].tolist() == [
        30,
        30,
        240,
        30,
        240,
    ]
    assert mosaic[SIDE, [0, second], 0].tolist() == [240, 10]
    assert (mosaic[:, 5 * SIDE : second] == 255).all()


def test_a_title_names_the_experiences_from_one_on(kept):
    (text,) = draw_memories(memories(kept([3], [3, 1])), "dm").texts
    assert " ".join(text.get_text().split()) == "dm, after experiences 1, 2"


def test_of_many_experiences_the_first_and_last_are_shown(kept):
    shown = list(memories(kept(*[[0]] * 25)))
    assert (len(shown), shown[0], shown[-1]) == (ACROSS, 0, 24)


def test_runs_that_kept_no_memories_have_no_such_picture(kept, run, section):
    title = "What the buffer holds after each experience"
    found, palette = kept([3], [3, 1]), Palette.of(["dm"])
    assert title in [plate.title for plate in plates(section(found), palette)]
    other = section(run("replay-dm", "continual"))
    assert title not in [plate.title for plate in plates(other, palette)]
