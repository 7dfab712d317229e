"""A synthetic set comes back from its file as it went in, and says how many bytes it takes."""

import io
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from distill.images import LabelledImages, Normalisation
from distill.synthetic import SyntheticSet

NORMALISATION = Normalisation([0.5, 0.4, 0.3], [0.25, 0.2, 0.1])
METADATA = {"num_classes": "3", "mean": "[0.5]", "std": "[0.25]", "origin": '"noise"'}
TENSORS = {"images": torch.zeros(2, 1, 8, 8), "labels": torch.tensor([0, 2])}


@pytest.fixture
def small(rng) -> SyntheticSet:
    """Four images that no 8-bit image equals, all of them within range; class 1 is missing."""
    images = NORMALISATION.clip(torch.randn(4, 3, 8, 9, generator=rng))
    data = LabelledImages(images, torch.tensor([0, 0, 2, 3]), 5)
    return SyntheticSet(data, NORMALISATION, "real")


def test_float32_comes_back_exactly(small, tmp_path):
    small.save(tmp_path / "set", "float32")
    assert torch.equal(SyntheticSet.load(tmp_path / "set").data.images, small.data.images)


def test_uint8_comes_back_within_half_a_grey_level(small, tmp_path):
    small.save(tmp_path / "set", "uint8")
    gap = (SyntheticSet.load(tmp_path / "set").data.images - small.data.images).abs()
    level = 1 / 255 / torch.tensor(NORMALISATION.std).view(3, 1, 1)
    assert (gap <= level * 0.501).all()
    assert (gap > level * 0.4).any()


@pytest.mark.parametrize("store", ["uint8", "float32"])
def test_labels_and_metadata_come_back(small, tmp_path, store):
    small.save(tmp_path / "set", store)
    loaded = SyntheticSet.load(tmp_path / "set")
    assert loaded.data.labels.tolist() == [0, 0, 2, 3]
    assert (loaded.data.num_classes, loaded.origin) == (5, "real")
    assert loaded.normalisation == NORMALISATION


@pytest.mark.parametrize("store", ["uint8", "float32"])
def test_what_is_loaded_is_what_stored_foretells(small, tmp_path, store):
    small.save(tmp_path / "set", store)
    foretold = small.stored(store)
    assert torch.equal(SyntheticSet.load(tmp_path / "set").data.images, foretold.data.images)
    assert foretold.data.labels.tolist() == [0, 0, 2, 3]
    assert (foretold.data.num_classes, foretold.origin) == (5, "real")


def test_storing_as_uint8_twice_changes_nothing_more(small):
    once = small.stored("uint8")
    assert torch.equal(once.stored("uint8").data.images, once.data.images)


def test_saving_leaves_the_set_as_it_was(small, tmp_path):
    before = small.data.images.clone()
    small.save(tmp_path / "set", "uint8")
    assert torch.equal(small.data.images, before)


@pytest.mark.parametrize("store", ["uint8", "float32"])
def test_a_set_whose_tensors_skip_through_memory_is_saved(small, tmp_path, store):
    images, labels = small.data.images.transpose(2, 3), torch.tensor([0, 9, 0, 9, 2, 9, 3, 9])[::2]
    skipping = SyntheticSet(LabelledImages(images, labels, 5), NORMALISATION, "real")
    skipping.save(tmp_path / "set", store)
    loaded = SyntheticSet.load(tmp_path / "set").data
    assert torch.equal(loaded.images, skipping.stored(store).data.images)
    assert loaded.labels.tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize(("store", "dtype"), [("uint8", "U8"), ("float32", "F32")])
def test_a_file_holds_images_labels_and_metadata_as_json(small, tmp_path, store, dtype):
    small.save(tmp_path / "set", store)
    with safe_open(tmp_path / "set", "pt") as file:
        assert sorted(file.keys()) == ["images", "labels"]
        assert file.get_slice("images").get_dtype() == dtype
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    mean, std = list(NORMALISATION.mean), list(NORMALISATION.std)
    assert metadata == {"num_classes": 5, "mean": mean, "std": std, "origin": "real"}


@pytest.mark.parametrize(
    # 4 images of 3 * 8 * 9 = 216 pixels: 4 * (216 + 1), and 4 * (4 * 216 + 1)
    ("store", "expected"),
    [("uint8", 868), ("float32", 3_460)],
)
def test_storage_is_pixels_and_one_byte_a_label(small, store, expected):
    assert small.storage_bytes(store) == expected


def test_length_is_the_number_of_images(small):
    assert len(small) == 4


def test_a_state_comes_back_through_a_safe_checkpoint(small):
    file = io.BytesIO()
    torch.save(small.state(), file)
    file.seek(0)
    loaded = SyntheticSet.from_state(torch.load(file, weights_only=True))
    assert torch.equal(loaded.data.images, small.data.images)
    assert loaded.data.labels.tolist() == [0, 0, 2, 3]
    assert (loaded.data.num_classes, loaded.origin) == (5, "real")
    assert loaded.normalisation == NORMALISATION


@pytest.mark.parametrize("act", ["save", "stored", "storage_bytes"])
def test_an_unknown_store_is_refused(small, tmp_path, act):
    arguments = (tmp_path / "set",) if act == "save" else ()
    with pytest.raises(ValueError, match=r"^unknown store 'jpeg'; known: float32, uint8$"):
        getattr(small, act)(*arguments, "jpeg")
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("key", ["num_classes", "mean", "std", "origin"])
def test_a_file_without_a_metadata_key_is_refused(tmp_path, key):
    metadata = {name: value for name, value in METADATA.items() if name != key}
    save_file(TENSORS, tmp_path / "set", metadata)
    with pytest.raises(ValueError, match=rf"set must hold {key}, got none$"):
        SyntheticSet.load(tmp_path / "set")


@pytest.mark.parametrize("key", ["images", "labels"])
def test_a_file_without_a_tensor_is_refused(tmp_path, key):
    tensors = {name: value for name, value in TENSORS.items() if name != key}
    save_file(tensors, tmp_path / "set", METADATA)
    with pytest.raises(ValueError, match=rf"set must hold {key}, got none$"):
        SyntheticSet.load(tmp_path / "set")


def test_a_file_without_any_metadata_is_refused_with_all_that_is_missing(tmp_path):
    save_file(TENSORS, tmp_path / "set")
    with pytest.raises(ValueError, match="must hold mean, num_classes, origin, std, got none"):
        SyntheticSet.load(tmp_path / "set")


def test_labels_outside_the_task_are_refused_on_loading(tmp_path):
    save_file(TENSORS, tmp_path / "set", METADATA | {"num_classes": "2"})
    with pytest.raises(ValueError, match=r"^labels must be in \[0, 2\), got 0 to 2$"):
        SyntheticSet.load(tmp_path / "set")


def test_an_unknown_origin_is_refused_on_loading(tmp_path):
    save_file(TENSORS, tmp_path / "set", METADATA | {"origin": '"stolen"'})
    with pytest.raises(ValueError, match=r"unknown origin 'stolen'; known: noise, real"):
        SyntheticSet.load(tmp_path / "set")
