"""Image grids hold the pixels of the records, unblurred."""

import io
import json

import numpy as np
from matplotlib.image import imread

from experiments.reporting.images import (
    LETTER,
    MAX_PER_CLASS,
    Stack,
    as_pixels,
    draw_images,
    draw_mosaic,
)
from experiments.reporting.plates import Panel


def test_mosaic_has_a_row_for_each_class_and_cuts_what_is_too_much():
    # Digit size 42: one pixel stays one pixel, and a tile is 42 + 3 wide.
    labels = np.array([0] * (MAX_PER_CLASS + 2) + [3])
    pixels = np.full((len(labels), 42, 42, 1), 7, np.uint8)
    mosaic = draw_mosaic(Stack(pixels, labels), [0, 3])
    assert mosaic.shape == (2 * 45, MAX_PER_CLASS * 45, 3)
    assert (mosaic[:42, :42] == 7).all()
    assert (mosaic[45:87, :42] == 7).all()
    assert (mosaic[45:87, 45:87] == 240).all()


def test_small_images_grow_by_whole_pixels():
    pixels = np.array([[[[0], [255]], [[255], [0]]]], np.uint8)
    mosaic = draw_mosaic(Stack(pixels, np.array([0])), [0])
    # 48 / 2: each pixel becomes a square of 24, and three pixels of gap follow.
    assert mosaic.shape == (51, 51, 3)
    assert (mosaic[:24, :24] == 0).all()
    assert (mosaic[:24, 24:48] == 255).all()


def test_grid_png_holds_the_pixels_unblurred():
    pixels = np.zeros((1, 2, 2, 1), np.uint8)
    panel = Panel("grid", draw_images(Stack(pixels, np.array([0])), "t", [0]), "alt", vector=False)
    image = imread(io.BytesIO(panel.png))[..., :3]
    black = (image == 0).all(-1)
    assert 46 * 46 <= black.sum() <= 52 * 52


def test_normalised_images_are_brought_back_to_pixels():
    metadata = {"mean": json.dumps([0.5]), "std": json.dumps([0.25])}
    images = np.array([-2.0, 0.0, 2.0, 9.0], np.float32).reshape(1, 1, 2, 2)
    assert as_pixels(images, metadata).ravel().tolist() == [0, 128, 255, 255]


def test_colour_images_keep_their_channels():
    images = np.arange(12, dtype=np.uint8).reshape(1, 3, 2, 2)
    assert as_pixels(images, {})[0, 0, 0].tolist() == [0, 4, 8]


def test_of_other_channels_the_first_is_shown():
    images = np.arange(8, dtype=np.uint8).reshape(1, 2, 2, 2)
    assert as_pixels(images, {})[..., 0].tolist() == [[[0, 1], [2, 3]]]


def test_a_narrow_grid_makes_room_for_its_title():
    stack = Stack(np.zeros((1, 8, 8, 1), np.uint8), np.array([0]))
    title = "shared_buffer-herding"
    assert draw_images(stack, title, [0]).get_figwidth() > LETTER * len(title)
