"""A set comes back from its file, and counts the bytes it stores."""

import pytest
import torch
from safetensors.torch import save_file

from distill.images import LabelledImages, Normalisation, stored_bytes
from distill.synthetic import SyntheticSet

NORMAL = Normalisation([0.3, 0.5], [0.2, 0.25])


@pytest.fixture
def small(rng) -> SyntheticSet:
    pixels = torch.randint(0, 256, (4, 2, 8, 8), generator=rng, dtype=torch.uint8)
    data = LabelledImages(NORMAL(pixels) + 0.001, torch.tensor([0, 0, 1, 2]), 3)
    return SyntheticSet(data, NORMAL, "noise")


def test_float_store_is_exact(small, tmp_path):
    small.save(tmp_path / "set.safetensors", "float32")
    back = SyntheticSet.load(tmp_path / "set.safetensors")
    assert back.data.images.equal(small.data.images)
    assert back.data.labels.equal(small.data.labels)
    assert (back.origin, back.normalisation, back.data.num_classes) == ("noise", NORMAL, 3)


def test_uint8_store_rounds_to_half_a_grey_level(small, tmp_path):
    small.save(tmp_path / "set.safetensors", "uint8")
    back = SyntheticSet.load(tmp_path / "set.safetensors").data.images
    assert (back - small.data.images).abs().max() <= 0.5 / 255 / 0.2 + 0.0011
    assert back.equal(small.stored("uint8").data.images)


def test_bytes_count_pixels_and_one_label_byte(small):
    assert small.storage_bytes("uint8") == 4 * (2 * 64 + 1)
    assert small.storage_bytes("float32") == 4 * (2 * 64 * 4 + 1)


def test_unknown_store_is_refused(small, tmp_path):
    with pytest.raises(ValueError, match=r"unknown store 'jpeg'; known: float32, uint8"):
        small.save(tmp_path / "set", "jpeg")
    with pytest.raises(ValueError, match="unknown store 'png'"):
        stored_bytes(1, (1, 8, 8), "png")


def test_a_file_without_a_set_is_refused(tmp_path):
    save_file({"images": torch.zeros(1, 1, 8, 8)}, tmp_path / "set")
    with pytest.raises(ValueError, match="must hold labels, mean, num_classes, origin, std"):
        SyntheticSet.load(tmp_path / "set")


def test_normalising_is_undone_by_quantising(rng):
    pixels = torch.randint(0, 256, (3, 2, 8, 8), generator=rng, dtype=torch.uint8)
    assert NORMAL.quantise(NORMAL(pixels)).equal(pixels)


def test_bad_labels_are_refused():
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\), got 0 to 2"):
        LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 2]), 2)
    with pytest.raises(ValueError, match=r"labels must be int64 of shape \(1,\)"):
        LabelledImages(torch.zeros(1, 1, 8, 8), torch.tensor([0.0]), 2)
    with pytest.raises(ValueError, match=r"sides of 8 pixels or more, got \(1, 1, 4, 8\)"):
        LabelledImages(torch.zeros(1, 1, 4, 8), torch.tensor([0]), 2)
