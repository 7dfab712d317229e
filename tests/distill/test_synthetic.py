"""A synthetic set comes back from its file as it went in, and says how many bytes it takes."""

import io
import json
from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill.images import LabelledImages, Normalisation
from distill.parameterisations.base import Decoder, Parameterisation
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.low_rank import LowRank
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.stores import STORES, pack, unpack
from distill.synthetic import SyntheticSet

NORMALISATION = Normalisation([0.5, 0.4, 0.3], [0.25, 0.2, 0.1])
METADATA = {"num_classes": "3", "mean": "[0.5]", "std": "[0.25]", "origin": '"noise"'}
TENSORS = {"images": torch.zeros(2, 1, 8, 8), "labels": torch.tensor([0, 2])}
every_store = pytest.mark.parametrize("store", STORES)
PARTS = [
    Parameterisation(Pixels(False), [Upsample(2)]),
    Parameterisation(LinearBases(3, 9), [Upsample(2), Hallucinators(2, 1)]),
    Parameterisation(LowRank(2), []),
]
every_part = pytest.mark.parametrize("part", PARTS, ids=str)


@final
@dataclass(frozen=True)
class Doubled(Decoder):
    """Twice the row; of elsewhere, and given with seven numbers."""

    @property
    def branches(self) -> int:
        return 1

    @property
    def learned(self) -> bool:
        return False

    def row_shape(self, shape):
        return shape

    def begin(self, real, shape, seed):
        return {"given": torch.linspace(0, 1, 7)}

    def encode(self, parameters, images, labels):
        return images / 2

    def decode(self, parameters, rows, wanted):
        return rows * 2


def coded(part: Parameterisation, rng: torch.Generator, labels=(0, 0, 2, 3)) -> SyntheticSet:
    """Rows of images of 3x8x9 in five classes; class 1 and 4 are missing."""
    images = torch.randn(len(labels), 3, 8, 9, generator=rng)
    first = LabelledImages(images, torch.tensor(labels), 5)
    code = part.encode(part.decoding(first, 0), first, 0)
    decoded = code.decode(torch.arange(len(code.labels)))
    data = LabelledImages(decoded, code.labels, 5)
    return SyntheticSet(data, NORMALISATION, "noise", code)


def softened(small: SyntheticSet, rng: torch.Generator) -> SyntheticSet:
    """The same set with distributions as targets."""
    targets = torch.randn(len(small), 5, generator=rng).softmax(1)
    return replace(small, data=replace(small.data, targets=targets))


def through_a_file(small: SyntheticSet, path, store: str) -> SyntheticSet:
    small.save(path / "set", store)
    return SyntheticSet.load(path / "set")


def parameters_of(small: SyntheticSet) -> dict[str, Tensor]:
    assert small.code is not None
    return dict(small.code.parameters)


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


def test_float16_comes_back_rounded_to_halves(small, tmp_path):
    images = through_a_file(small, tmp_path, "float16").data.images
    assert images.dtype == torch.float32
    assert torch.equal(images, small.data.images.half().float())
    assert not torch.equal(images, small.data.images)


@every_store
def test_labels_and_metadata_come_back(small, tmp_path, store):
    small.save(tmp_path / "set", store)
    loaded = SyntheticSet.load(tmp_path / "set")
    assert loaded.data.labels.tolist() == [0, 0, 2, 3]
    assert (loaded.data.num_classes, loaded.origin) == (5, "real")
    assert loaded.normalisation == NORMALISATION


@every_store
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


@every_store
def test_a_set_whose_tensors_skip_through_memory_is_saved(small, tmp_path, store):
    images, labels = small.data.images.transpose(2, 3), torch.tensor([0, 9, 0, 9, 2, 9, 3, 9])[::2]
    skipping = SyntheticSet(LabelledImages(images, labels, 5), NORMALISATION, "real")
    skipping.save(tmp_path / "set", store)
    loaded = SyntheticSet.load(tmp_path / "set").data
    assert torch.equal(loaded.images, skipping.stored(store).data.images)
    assert loaded.labels.tolist() == [0, 0, 2, 3]


@pytest.mark.parametrize(
    ("store", "dtype"), [("uint8", "U8"), ("float16", "F16"), ("float32", "F32")]
)
def test_a_file_holds_images_labels_and_metadata_as_json(small, tmp_path, store, dtype):
    small.save(tmp_path / "set", store)
    with safe_open(tmp_path / "set", "pt") as file:
        assert sorted(file.keys()) == ["images", "labels"]
        assert file.get_slice("images").get_dtype() == dtype
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    mean, std = list(NORMALISATION.mean), list(NORMALISATION.std)
    assert metadata == {"num_classes": 5, "mean": mean, "std": std, "origin": "real"}


@pytest.mark.parametrize(
    # 4 images of 3 * 8 * 9 = 216 pixels: 4 * (216 + 1), 4 * (2 * 216 + 1), 4 * (4 * 216 + 1)
    ("store", "expected"),
    [("uint8", 868), ("float16", 1_732), ("float32", 3_460)],
)
def test_storage_is_pixels_and_one_byte_a_label(small, store, expected):
    assert small.storage_bytes(store) == expected


@pytest.mark.parametrize(
    # 4 * 5 targets beside the images: of one byte and a range of 8, of two, of four bytes
    ("store", "expected"),
    [("uint8", 868 + 20 + 8), ("float16", 1_732 + 40), ("float32", 3_460 + 80)],
)
def test_storage_counts_targets_besides(small, rng, store, expected):
    assert softened(small, rng).storage_bytes(store) == expected


@pytest.mark.parametrize(
    ("part", "store", "expected"),
    # and 3 classes of 4 bytes. 4 rows of 3 * 4 * 5 = 60 numbers, a range of 8 bytes
    [
        (PARTS[0], "uint8", 240 + 8 + 12),
        (PARTS[0], "float16", 480 + 12),
        (PARTS[0], "float32", 960 + 12),
        # 3 bases of 60, 4 * 3 coefficients, 2 hallucinators of 27 + 27 + 6 * 7 + 6 * 7 = 138:
        # 468 numbers and 6 ranges
        (PARTS[1], "uint8", 468 + 48 + 12),
        (PARTS[1], "float32", 1_872 + 12),
        # 4 rows of 3 * 2 * (8 + 9) = 102 numbers, 2 ranges
        (PARTS[2], "uint8", 408 + 16 + 12),
        (PARTS[2], "float16", 816 + 12),
    ],
    ids=str,
)
def test_storage_of_a_code_is_its_numbers_and_four_bytes_a_class(rng, part, store, expected):
    assert coded(part, rng).storage_bytes(store) == expected


def test_storage_of_a_code_counts_targets_besides(rng):
    small = softened(coded(PARTS[2], rng), rng)
    # 4 * 5 targets
    assert small.storage_bytes("float16") == 816 + 12 + 40
    assert small.storage_bytes("uint8") == 408 + 16 + 12 + 20 + 8


@every_store
def test_storage_counts_four_bytes_for_each_learned_step_size(small, rng, store):
    for held in (small, coded(PARTS[1], rng)):
        rated = replace(held, rates=(0.1, 0.2, 0.3))
        assert rated.storage_bytes(store) == held.storage_bytes(store) + 12


@every_part
@every_store
def test_storage_is_what_a_file_holds_beside_labels(rng, tmp_path, part, store):
    small = softened(coded(part, rng), rng)
    small.save(tmp_path / "set", store)
    held = load_file(tmp_path / "set")
    held.pop("labels")
    assert sum(t.numel() * t.element_size() for t in held.values()) == (
        small.storage_bytes(store) - 4 * 3
    )


@every_store
def test_storage_of_pixels_is_what_a_file_holds_beside_labels(small, rng, tmp_path, store):
    softened(small, rng).save(tmp_path / "set", store)
    held = load_file(tmp_path / "set")
    held.pop("labels")
    assert sum(t.numel() * t.element_size() for t in held.values()) == (
        softened(small, rng).storage_bytes(store) - 4
    )


def test_what_was_given_is_counted_apart_as_float32(rng):
    small = coded(Parameterisation(Pixels(False), [Doubled()]), rng)
    assert small.given_bytes == 7 * 4
    # 4 rows of 216 numbers, their range and 3 classes
    assert small.storage_bytes("uint8") == 864 + 8 + 12


def test_nothing_is_given_to_pixels_and_learned_decoders(small, rng):
    assert small.given_bytes == 0
    assert coded(PARTS[1], rng).given_bytes == 0


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
    with pytest.raises(ValueError, match=r"^unknown store 'jpeg'; known: float16, float32, uint8$"):
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


def test_a_file_that_is_cut_short_is_refused(tmp_path):
    save_file(TENSORS, tmp_path / "set", METADATA)
    (tmp_path / "cut").write_bytes((tmp_path / "set").read_bytes()[:40])
    with pytest.raises(ValueError, match=r"cut must be a whole safetensors file, got "):
        SyntheticSet.load(tmp_path / "cut")


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


@every_part
@every_store
def test_a_code_comes_back_as_its_store_keeps_it(rng, tmp_path, part, store):
    small = coded(part, rng)
    loaded = through_a_file(small, tmp_path, store)
    assert loaded.code.parameterisation == part
    assert loaded.code.image_shape == (3, 8, 9)
    assert loaded.code.counts.tolist() == small.code.counts.tolist()
    assert parameters_of(loaded).keys() == parameters_of(small).keys()
    for name, numbers in parameters_of(small).items():
        assert torch.equal(parameters_of(loaded)[name], unpack(pack(numbers, store)))


@every_part
@every_store
def test_images_of_a_loaded_code_are_decoded_from_it(rng, tmp_path, part, store):
    small = coded(part, rng)
    loaded = through_a_file(small, tmp_path, store)
    assert torch.equal(loaded.data.images, loaded.code.decode(torch.arange(len(loaded))))
    assert torch.equal(loaded.data.images, small.data.images) is (store == "float32")
    assert torch.equal(loaded.data.labels, small.data.labels)
    assert (loaded.data.num_classes, loaded.origin) == (5, "noise")


@every_part
@every_store
def test_a_loaded_code_is_what_stored_foretells(rng, tmp_path, part, store):
    small = coded(part, rng)
    foretold, loaded = small.stored(store), through_a_file(small, tmp_path, store)
    assert torch.equal(foretold.data.images, loaded.data.images)
    assert foretold.code.parameterisation == part


@pytest.mark.parametrize(
    # each hallucinator multiplies three numbers by a row: a step of each is at most 1 / 255 of
    # its range; halves have 11 bits
    ("store", "share"),
    [("uint8", 0.05), ("float16", 0.002)],
)
@every_part
def test_a_rounded_code_decodes_to_nearly_the_same_images(rng, part, store, share):
    small = coded(part, rng)
    gap = (small.stored(store).data.images - small.data.images).norm()
    assert gap < share * small.data.images.norm()


def test_a_file_of_a_code_holds_no_images(rng, tmp_path):
    coded(PARTS[1], rng).save(tmp_path / "set", "uint8")
    names = ["bases", "coefficients", "1.inner", "1.outer", "1.scale", "1.shift"]
    kept = {f"code/{name}/{part}" for name in names for part in ("numbers", "range")}
    with safe_open(tmp_path / "set", "pt") as file:
        assert set(file.keys()) == kept | {"labels"}
        described = json.loads(file.metadata()["parameterisation"])
    assert described["type"] == "distill.parameterisations.base.Parameterisation"


def test_numbers_that_were_given_are_kept_in_full(rng, tmp_path):
    small = coded(Parameterisation(Pixels(False), [Doubled()]), rng)
    small.save(tmp_path / "set", "uint8")
    kept = load_file(tmp_path / "set")
    assert torch.equal(kept["code/0.given/numbers"], torch.linspace(0, 1, 7))
    assert "code/0.given/range" not in kept
    assert kept["code/pixels/numbers"].dtype == torch.uint8


def test_a_file_whose_parameterisation_is_from_elsewhere_is_refused(rng, tmp_path):
    small = coded(Parameterisation(Pixels(False), [Doubled()]), rng)
    small.save(tmp_path / "set", "float32")
    message = r"^parts of distill\.parameterisations alone can be described, got '.*\.Doubled'$"
    with pytest.raises(ValueError, match=message):
        SyntheticSet.load(tmp_path / "set")


@pytest.mark.parametrize("key", ["labels", "image_shape", "num_classes"])
def test_a_file_of_a_code_without_something_is_refused(rng, tmp_path, key):
    coded(PARTS[0], rng).save(tmp_path / "set", "float32")
    with safe_open(tmp_path / "set", "pt") as file:
        metadata = {name: value for name, value in file.metadata().items() if name != key}
    kept = {name: value for name, value in load_file(tmp_path / "set").items() if name != key}
    save_file(kept, tmp_path / "set", metadata)
    with pytest.raises(ValueError, match=rf"set must hold {key}, got none$"):
        SyntheticSet.load(tmp_path / "set")


@every_store
def test_targets_come_back_as_their_store_keeps_them(small, rng, tmp_path, store):
    given = softened(small, rng)
    loaded = through_a_file(given, tmp_path, store).data
    assert torch.equal(loaded.targets, unpack(pack(given.data.targets, store)))
    assert loaded.targets.dtype == torch.float32
    assert loaded.are_distributions
    # softmax of five: no number is larger than 1, nor its step than 1 / 255
    assert (loaded.targets - given.data.targets).abs().max() <= 0.5 / 255 + 1e-7


@every_store
def test_targets_of_a_code_come_back_too(rng, tmp_path, store):
    given = softened(coded(PARTS[1], rng), rng)
    loaded = through_a_file(given, tmp_path, store).data
    assert torch.equal(loaded.targets, unpack(pack(given.data.targets, store)))


def test_hard_labels_come_back_hard(small, tmp_path):
    assert through_a_file(small, tmp_path, "uint8").data.targets is None


@every_store
def test_rates_come_back_exactly(small, rng, tmp_path, store):
    rates = (0.1, 1 / 3, 1e-7)
    for given in (replace(small, rates=rates), replace(coded(PARTS[0], rng), rates=rates)):
        assert through_a_file(given, tmp_path, store).rates == rates
        assert given.stored(store).rates == rates


def test_a_set_without_rates_comes_back_without(small, tmp_path):
    assert through_a_file(small, tmp_path, "float32").rates == ()
    assert through_a_file(small, tmp_path, "float32").code is None


@every_part
def test_the_state_of_a_code_comes_back_through_a_safe_checkpoint(rng, part):
    small, file = replace(softened(coded(part, rng), rng), rates=(0.5,)), io.BytesIO()
    torch.save(small.state(), file)
    file.seek(0)
    loaded = SyntheticSet.from_state(torch.load(file, weights_only=True))
    assert torch.equal(loaded.data.images, small.data.images)
    assert torch.equal(loaded.data.targets, small.data.targets)
    assert (loaded.code.parameterisation, loaded.rates) == (part, (0.5,))
    for name, numbers in parameters_of(small).items():
        assert torch.equal(parameters_of(loaded)[name], numbers)
