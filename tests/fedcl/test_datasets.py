"""Data sets are found, checked, and divided as their contract says."""

import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml

from distill.images import LabelledImages, Normalisation
from distill.rng import derive
from fedcl.datasets import Dataset, Digits, ImageFiles, InSequence, NpzFile, folder, stratified
from fedcl.datasets.arrays import KEYS
from fedcl.datasets.image_files import NAMES

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data"
CONFIGS = sorted((ROOT / "configs" / "dataset").glob("*.yaml"))
DIGITS = Digits("digits", 0.0, None, False, [0.3057], [0.3761])
MNIST = ImageFiles("mnist", None, 0.0, None, False, None, None, ["0", "1", "2"])


def part_of(counts: list[int]) -> LabelledImages:
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    images = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    return LabelledImages(images, labels, len(counts))


def arrays(**changes: object) -> dict[str, object]:
    """Six training and three test images of three classes, 8 x 8 grey."""
    x = np.arange(9 * 64, dtype=np.int64).reshape(9, 8, 8).astype(np.uint8)
    y = np.array([0, 1, 2] * 3)
    return {"x_train": x[:6], "y_train": y[:6], "x_test": x[6:], "y_test": y[6:], **changes}


def npz(tmp_path: Path, **changes: object) -> NpzFile:
    path = tmp_path / "mine.npz"
    tmp_path.mkdir(exist_ok=True)
    np.savez(path, **arrays(**changes))
    return NpzFile("npz", str(path), 0.0, None, False, None, None)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes the format of MNIST's files: magic 0, 0, uint8, dimensions; sizes big-endian."""
    sizes = np.array(array.shape, dtype=">i4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


def write_mnist(folder: Path, prefixes: tuple[str, str] = ("train", "t10k")) -> None:
    data = arrays()
    for part, prefix in zip(("train", "test"), prefixes, strict=True):
        write_idx(folder / f"{prefix}-images-idx3-ubyte", data[f"x_{part}"])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", data[f"y_{part}"])


def same(first: Dataset, second: Dataset) -> bool:
    return all(
        torch.equal(getattr(a, field), getattr(b, field))
        for a, b in ((first.train, second.train), (first.validation, second.validation))
        for field in ("images", "labels")
    )


# -- stratified ---------------------------------------------------------------------------


def test_quotas_are_one_each_and_then_proportional():
    # Keep 7 of 1 + 3 + 8 = 12: one each leaves 4 for 0 + 2 + 7 = 9 images.
    # 0 * 4 / 9 = 0 r 0, 2 * 4 / 9 = 0 r 8, 7 * 4 / 9 = 3 r 1; the one left goes to remainder 8.
    part = part_of([1, 3, 8])
    kept, left = stratified(part, 7, derive(0))
    assert part.rows(kept).counts.tolist() == [1, 2, 4]
    assert part.rows(left).counts.tolist() == [0, 1, 4]


def test_equal_remainders_go_to_the_lower_classes():
    # Keep 5 of 3 + 3 + 3: one each leaves 2 for 6; 2 * 2 / 6 = 0 r 4 for all three classes.
    part = part_of([3, 3, 3])
    assert part.rows(stratified(part, 5, derive(0))[0]).counts.tolist() == [2, 2, 1]


@pytest.mark.parametrize("counts", [[4, 4], [1, 1, 1], [0, 5, 2], [1, 30]])
def test_every_size_from_one_a_class_to_all_is_met_exactly(counts):
    part = part_of(counts)
    for keep in range(sum(c > 0 for c in counts), len(part) + 1):
        kept, left = stratified(part, keep, derive(0))
        assert len(kept) == keep
        assert (part.rows(kept).counts > 0).tolist() == [c > 0 for c in counts]
        assert torch.cat([kept, left]).sort().values.tolist() == list(range(len(part)))
        assert kept.tolist() == sorted(kept.tolist())


def test_stratified_draws_by_its_generator():
    part = part_of([20, 20])
    first, again = (stratified(part, 10, derive(3))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, stratified(part, 10, derive(4))[0])


# -- digits and the division by seed ------------------------------------------------------


def test_digits_are_scikit_learns_with_sixteen_grey_levels_spread_over_uint8():
    # 1,797 images, of which a fifth, rounded up, is 360; level 8 of 16 is 127.5, even: 128.
    digits = DIGITS.load(seed=0)
    assert (len(digits.train), len(digits.validation), len(digits.test)) == (1437, 0, 360)
    levels = digits.train.images.unique().tolist()
    assert levels == [round(level * 255 / 16) for level in range(17)]
    assert digits.train.images.shape[1:] == (1, 8, 8)
    assert digits.class_names == tuple("0123456789")


def test_digits_test_part_is_the_same_for_every_seed():
    parts = [replace(DIGITS, validation=0.2).load(seed) for seed in (0, 1)]
    assert torch.equal(parts[0].test.images, parts[1].test.images)
    assert not torch.equal(parts[0].train.images, parts[1].train.images)


def test_digits_test_part_is_stratified_and_pinned():
    # A changed split would silently change every digits number in every report.
    test = DIGITS.load(seed=0).test
    assert test.counts.tolist() == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert test.images.long().sum().item() == 1_785_452


def test_equal_seeds_give_equal_bytes():
    source = replace(DIGITS, validation=0.25, train_images=100)
    assert same(source.load(5), source.load(5))
    assert not same(source.load(5), source.load(6))


def test_validation_comes_out_of_the_training_part():
    # A quarter of 1,437 is 359.25.
    whole, split = DIGITS.load(0), replace(DIGITS, validation=0.25).load(0)
    assert (len(split.train), len(split.validation)) == (1078, 359)
    assert torch.equal(split.train.counts + split.validation.counts, whole.train.counts)
    rows, held_out = stratified(whole.train, 1078, derive(0, "validation"))
    assert torch.equal(split.train.images, whole.train.images[rows])
    assert torch.equal(split.validation.images, whole.train.images[held_out])


def test_train_images_keeps_a_stratified_part_and_leaves_validation_alone():
    split = replace(DIGITS, validation=0.25).load(0)
    small = replace(DIGITS, validation=0.25, train_images=50).load(0)
    assert small.train.counts.tolist() == [5] * 10
    assert torch.equal(small.validation.images, split.validation.images)
    rows, _ = stratified(split.train, 50, derive(0, "train_images"))
    assert torch.equal(small.train.images, split.train.images[rows])


def test_configured_normalisation_of_digits_is_that_of_their_training_part():
    computed = replace(DIGITS, mean=None, std=None).load(0).normalisation
    assert computed.mean[0] == pytest.approx(DIGITS.mean[0], abs=5e-5)
    assert computed.std[0] == pytest.approx(DIGITS.std[0], abs=5e-5)


def test_missing_normalisation_is_that_of_the_images_trained_on(tmp_path):
    data = replace(npz(tmp_path), train_images=3).load(0)
    assert data.normalisation == Normalisation.of(data.train.images)
    pixels = data.train.images.numpy() / 255
    assert data.normalisation.mean[0] == pytest.approx(pixels.mean())
    assert data.normalisation.std[0] == pytest.approx(pixels.std(ddof=1))


def test_normalised_maps_pixels_and_keeps_labels():
    # (255 / 255 - 0.5) / 0.25 = 2 and (0 - 0.5) / 0.25 = -2.
    part = part_of([1, 1])
    part = LabelledImages(part.images * 255, part.labels, 2)
    data = Dataset("x", part, part, part, Normalisation([0.5], [0.25]), ("a", "b"))
    normalised = data.normalised(part)
    assert normalised.images.dtype == torch.float32
    assert normalised.images.flatten(1).unique(dim=1).tolist() == [[-2.0], [2.0]]
    assert torch.equal(normalised.labels, part.labels)


def test_construction_touches_no_file():
    sources = (
        replace(MNIST, data_root="/nowhere"),
        NpzFile("npz", "/nowhere/x.npz", 0.1, 10, True, None, None),
        DIGITS,
    )
    for source in sources:
        assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": -0.1}, r"dataset.validation must be in \[0, 1\], got -0.1"),
        ({"validation": 1}, "dataset.validation must be < 1, got 1"),
        ({"train_images": 0}, "dataset.train_images must be >= 1, got 0"),
        ({"mean": None}, r"dataset.mean and dataset.std must be both given .* got None and \["),
        ({"std": [0.0]}, "std must be > 0"),
    ],
)
@pytest.mark.parametrize("source", [DIGITS, replace(MNIST, mean=[0.1], std=[0.3])])
def test_impossible_fields_are_refused_when_built(source, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(source, **changes)


def test_more_train_images_than_remain_are_refused():
    with pytest.raises(ValueError, match=r"train_images must be in \[10, 1078\], .* got 1079"):
        replace(DIGITS, validation=0.25, train_images=1079).load(0)


def test_fewer_train_images_than_classes_are_refused():
    with pytest.raises(ValueError, match=r"train_images must be in \[10, 1437\], .* got 9"):
        replace(DIGITS, train_images=9).load(0)


def test_validation_that_leaves_too_little_is_refused():
    # 0.995 of 1,437 is 1429.8, so 7 would remain.
    with pytest.raises(ValueError, match=r"must leave 10 training images.* got 0.995, .* 7 of"):
        replace(DIGITS, validation=0.995).load(0)


# -- npz ----------------------------------------------------------------------------------


def test_npz_holds_grey_images_without_a_channel_axis(tmp_path):
    data = npz(tmp_path).load(0)
    expected = arrays()
    assert np.array_equal(data.train.images.numpy()[:, 0], expected["x_train"])
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.train.labels.dtype == torch.int64
    assert data.class_names == ("0", "1", "2")


def test_npz_holds_colour_images_with_channels_last(tmp_path):
    x = np.zeros((6, 8, 9, 3), dtype=np.uint8)
    x[..., 2] = 7
    data = npz(tmp_path, x_train=x, x_test=x[:3]).load(0)
    assert data.train.images.shape == (6, 3, 8, 9)
    assert data.train.images.is_contiguous()
    assert data.train.images.amax((0, 2, 3)).tolist() == [0, 0, 7]


@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i8", "uint64"])
def test_npz_labels_may_be_any_integers(tmp_path, dtype):
    data = npz(tmp_path, y_train=arrays()["y_train"].astype(dtype)).load(0)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]


X, Y = arrays()["x_train"], arrays()["y_train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": X / 255}, r"x_train of .*mine.npz must be uint8, got float64; .*store uint8"),
        ({"x_test": np.full((3, 8, 8), np.nan)}, "x_test of .* must be uint8, got float64"),
        ({"x_train": X.astype(np.int64)}, "x_train of .* must be uint8, got int64"),
        ({"x_train": X[0]}, r"x_train of .* must have shape \(N, H, W\) .* got \(8, 8\)"),
        ({"x_train": X[:, :7]}, r"x_train of .* sides of 8 pixels or more, got \(6, 7, 8\)"),
        ({"x_train": X[:0]}, r"x_train of .* not empty .* got \(0, 8, 8\)"),
        ({"x_train": X[:, None]}, r"x_train of .* sides of 8 .* got \(6, 1, 8, 8\)"),
        (
            {"x_test": np.zeros((3, 9, 8), np.uint8)},
            r"x_test of .* shape \(8, 8, 1\) as x_train does, got \(9, 8, 1\)",
        ),
        ({"y_train": Y.astype(np.float32)}, "y_train of .* must be integers, got float32"),
        ({"y_train": Y > 0}, "y_train of .* must be integers, got bool"),
        ({"y_train": Y[:5]}, r"y_train of .* must have shape \(6,\), .* got \(5,\)"),
        ({"y_test": Y[:3, None]}, r"y_test of .* must have shape \(3,\), .* got \(3, 1\)"),
        ({"y_train": Y - 1}, "y_train of .* must be >= 0, got -1"),
        ({"y_test": Y[:3] - 1}, "y_test of .* must be >= 0, got -1"),
        ({"y_train": Y + 1}, "y_train of .* class from 0 to 3, got no image of class 0"),
        ({"y_train": Y * 2}, "y_train of .* class from 0 to 4, got no image of class 1"),
        ({"y_test": Y[:3] + 1}, "y_test of .* must be <= 2, the largest .*, got 3"),
        (
            {"x_train": np.array([{}] * 6, dtype=object)},
            "x_train of .* must be a readable array of numbers, got: .*allow_pickle",
        ),
    ],
)
def test_malformed_npz_is_refused_in_one_line(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        npz(tmp_path, **changes).load(0)
    assert "\n" not in str(caught.value)


def test_npz_without_a_key_is_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=X, y_train=Y, images=X)
    with pytest.raises(ValueError, match=r"x.npz must hold .*, got no x_test, y_test"):
        replace(npz(tmp_path), path=str(tmp_path / "x.npz")).load(0)


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut off"])
def test_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x.npz must be an .npz archive, got a file of another"):
        replace(npz(tmp_path), path=str(path)).load(0)


def test_damaged_member_is_refused(tmp_path):
    source = npz(tmp_path)
    path = Path(source.path)
    # np.savez stores members uncompressed, so a pixel's byte can be found and flipped.
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()[:64])] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x_train of .* readable array .*BadZipFile.*CRC"):
        source.load(0)


def test_member_that_is_no_array_is_refused(tmp_path):
    source = npz(tmp_path)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for key in KEYS:
            archive.writestr(key, "text")
    with pytest.raises(ValueError, match=r"x_train of .* must be an array, got bytes"):
        replace(source, path=str(tmp_path / "x.npz")).load(0)


def test_missing_npz_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.npz must be an .npz file, got no file"):
        replace(npz(tmp_path), path=str(tmp_path / "nothing.npz")).load(0)


# -- files by name ------------------------------------------------------------------------


def test_data_root_is_the_argument_then_the_environment_then_the_cache(monkeypatch):
    monkeypatch.setenv("FEDCL_DATA", "/from/environment")
    monkeypatch.setenv("HOME", "/home/me")
    assert folder("~/given") == Path("/home/me/given")
    assert folder(None) == Path("/from/environment")
    monkeypatch.delenv("FEDCL_DATA")
    assert folder(None) == Path("/home/me/.cache/fedcl")


def test_npz_under_the_root_comes_before_torchvisions_files(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    np.savez(tmp_path / "mnist.npz", **arrays(x_train=X // 2))
    data = replace(MNIST, data_root=str(tmp_path)).load(0)
    assert np.array_equal(data.train.images.numpy()[:, 0], X // 2)


@pytest.mark.parametrize(
    ("name", "kind"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_torchvisions_files_are_read_where_there_is_no_npz(tmp_path, name, kind):
    write_mnist(tmp_path / kind / "raw")
    data = replace(MNIST, name=name, data_root=str(tmp_path)).load(0)
    expected = arrays()
    assert np.array_equal(data.train.images.numpy()[:, 0], expected["x_train"])
    assert np.array_equal(data.test.images.numpy()[:, 0], expected["x_test"])
    assert data.train.labels.tolist() == expected["y_train"].tolist()


def test_emnist_is_its_balanced_split_set_upright(tmp_path):
    prefixes = ("emnist-balanced-train", "emnist-balanced-test")
    write_mnist(tmp_path / "EMNIST" / "raw", prefixes)
    data = replace(MNIST, name="emnist", data_root=str(tmp_path)).load(0)
    assert np.array_equal(data.train.images.numpy()[:, 0], X.transpose(0, 2, 1))
    assert np.array_equal(data.test.images.numpy()[:, 0], arrays()["x_test"].transpose(0, 2, 1))


def test_cifar_is_read_from_torchvisions_batches(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    rows = np.arange(6 * 3 * 1024, dtype=np.int64).astype(np.uint8).reshape(6, 3 * 1024)
    batches = tmp_path / "cifar-10-batches-py"
    batches.mkdir()
    for name, part in (("data_batch_1", rows), ("test_batch", rows[:3])):
        labels = [0, 1, 2] * (len(part) // 3)
        (batches / name).write_bytes(pickle.dumps({"data": part, "labels": labels}))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b", "c"]}))
    # The published checksums, which files made small cannot have, are replaced by None.
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", None]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", None]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": None})
    data = replace(MNIST, name="cifar10", data_root=str(tmp_path)).load(0)
    assert np.array_equal(data.train.images.numpy(), rows.reshape(6, 3, 32, 32))
    assert data.test.labels.tolist() == [0, 1, 2]


def test_svhn_is_read_from_torchvisions_mat_files(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    x = np.arange(6 * 8 * 8 * 3, dtype=np.int64).astype(np.uint8).reshape(8, 8, 3, 6)
    # Its digit 0 has the label 10.
    savemat(tmp_path / "train_32x32.mat", {"X": x, "y": np.array([[10, 1, 2, 10, 1, 2]]).T})
    savemat(tmp_path / "test_32x32.mat", {"X": x[..., :3], "y": np.array([[10, 1, 2]]).T})
    files = {part: ["", f"{part}_32x32.mat", None] for part in ("train", "test")}
    monkeypatch.setattr(SVHN, "split_list", files)
    data = replace(MNIST, name="svhn", data_root=str(tmp_path)).load(0)
    assert np.array_equal(data.train.images.numpy(), x.transpose(3, 2, 0, 1))
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert np.array_equal(data.test.images.numpy(), x.transpose(3, 2, 0, 1)[:3])


@pytest.mark.parametrize(
    "failure", [URLError("no network"), RuntimeError("Tried a,\ngot b"), PermissionError(13, "x")]
)
@pytest.mark.parametrize("name", ["mnist", "emnist", "cifar100", "svhn"])
def test_what_cannot_be_had_is_one_line_that_says_where_and_how(
    tmp_path, monkeypatch, name, failure
):
    def fail(*args: object, **kwargs: object) -> None:
        raise failure

    for module in ("mnist", "cifar", "svhn"):
        function = "download_url" if module == "svhn" else "download_and_extract_archive"
        monkeypatch.setattr(f"torchvision.datasets.{module}.{function}", fail)
    with pytest.raises(ValueError, match=f"dataset {name} must be on disk") as caught:
        replace(MNIST, name=name, data_root=str(tmp_path)).load(0)
    message = str(caught.value)
    assert "\n" not in message
    assert f"neither {tmp_path}/{name}.npz nor files of torchvision's under {tmp_path}" in message
    assert f"put {name}.npz with uint8 x_train y_train x_test y_test there" in message
    assert message.endswith("or run once with a network")


def test_damaged_torchvision_files_are_refused(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"garbage" * 9)
    with pytest.raises(ValueError, match="dataset mnist must be on disk or downloadable"):
        replace(MNIST, data_root=str(tmp_path)).load(0)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"unknown dataset 'minst'; known: cifar10, .*, svhn"):
        replace(MNIST, name="minst")


def test_wrong_number_of_class_names_is_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", **arrays())
    source = replace(MNIST, data_root=str(tmp_path), class_names=["a", "b"])
    with pytest.raises(ValueError, match=r"class_names must be 3 names, .* of mnist, got 2"):
        source.load(0)


def test_normalisation_of_other_channels_is_refused(tmp_path):
    source = replace(npz(tmp_path), mean=[0.5] * 3, std=[0.5] * 3)
    with pytest.raises(ValueError, match=r"mean must be 1 numbers, .* channel of npz, got 3"):
        source.load(0)


def test_real_fashion_mnist_has_its_published_shape_and_statistics():
    if not (REAL / "fashion_mnist.npz").exists():
        pytest.skip(f"no fashion_mnist.npz under {REAL}")
    config = yaml.safe_load((ROOT / "configs/dataset/fashion_mnist.yaml").read_text())
    del config["_target_"]
    source = ImageFiles(**{**config, "data_root": str(REAL), "validation": 0.1})
    data = source.load(0)
    assert (len(data.train), len(data.validation), len(data.test)) == (54_000, 6_000, 10_000)
    assert data.train.counts.tolist() == [5_400] * 10
    computed = Normalisation.of(data.train.images)
    # The published values are those of all 60,000 images.
    assert computed.mean[0] == pytest.approx(0.2861, abs=1e-3)
    assert computed.std[0] == pytest.approx(0.3530, abs=1e-3)


# -- data sets in sequence ----------------------------------------------------------------


def test_a_sequence_of_data_sets_changes_with_a_file_of_the_users(tmp_path):
    digests = []
    for first in (0, 1, 0):
        mine = npz(tmp_path, x_train=np.full((6, 8, 8), first, np.uint8))
        digests.append(InSequence("both", {"digits": DIGITS, "mine": mine}, False).digest())
    assert digests[0] == digests[2] != digests[1]
    assert InSequence("one", {"digits": DIGITS}, False).digest() is None


def test_classes_of_data_sets_in_sequence_follow_each_other(tmp_path):
    colour = np.arange(9 * 300, dtype=np.int64).reshape(9, 10, 10, 3).astype(np.uint8)
    mine = npz(tmp_path, x_train=colour[:6], x_test=colour[6:])
    data = InSequence("both", {"digits": DIGITS, "mine": mine}, False).load(0)
    digits, alone = DIGITS.load(0), mine.load(0)
    assert (len(data.train), len(data.validation), len(data.test)) == (1437 + 6, 0, 360 + 3)
    assert data.train.labels.tolist() == [
        *digits.train.labels.tolist(),
        *(alone.train.labels + 10).tolist(),
    ]
    assert (data.train.num_classes, data.train.image_shape) == (13, (3, 10, 10))
    assert data.train.images[1437:].equal(alone.train.images)
    assert data.test.images[360:].equal(alone.test.images)


def test_smaller_images_are_enlarged_bilinearly_in_three_equal_channels(tmp_path):
    # Twice as large, the middle of the first row is 3/4 of the nearer pixel and 1/4 of the other:
    # of 0 and 103 at columns 3 and 4: 25.75 at column 7, 77.25 at 8; all rows are equal.
    small = np.zeros((9, 8, 8), dtype=np.uint8)
    small[:, :, 4:] = 103
    large = np.zeros((9, 16, 16, 3), dtype=np.uint8)
    grey = npz(tmp_path / "grey", x_train=small[:6], x_test=small[6:])
    colour = npz(tmp_path / "colour", x_train=large[:6], x_test=large[6:])
    data = InSequence("both", {"grey": grey, "colour": colour}, False).load(0)
    row = [0] * 7 + [26, 77] + [103] * 7
    assert data.train.images[0].tolist() == [[row] * 16] * 3
    assert data.test.images.dtype == torch.uint8


def test_data_sets_in_sequence_share_one_normalisation_and_keep_held_out_images(tmp_path):
    sources = {"digits": replace(DIGITS, validation=0.1), "mine": npz(tmp_path)}
    data = InSequence("both", sources, False).load(0)
    assert data.normalisation == Normalisation.of(data.train.images)
    assert len(data.validation) == 144
    assert data.validation.labels.max() == 9


def test_only_names_that_two_data_sets_have_are_told_apart(tmp_path):
    names = InSequence("both", {"digits": DIGITS, "mine": npz(tmp_path)}, False).load(0).class_names
    assert names[:4] == ("digits 0", "digits 1", "digits 2", "3")
    assert names[10:] == ("mine 0", "mine 1", "mine 2")


def test_channels_that_cannot_be_made_equal_are_refused(tmp_path):
    sources = {}
    for channels in (2, 3):
        x = np.zeros((9, 8, 8, channels), dtype=np.uint8)
        sources[f"{channels}"] = npz(tmp_path / f"{channels}", x_train=x[:6], x_test=x[6:])
    with pytest.raises(ValueError, match="in sequence must have 1 or 3 channels, got 2"):
        InSequence("both", sources, False).load(0)


def test_no_data_set_in_sequence_is_refused():
    with pytest.raises(ValueError, match=r"dataset.sources must be one or more .* got none"):
        InSequence("none", {}, False)


# -- configs ------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_builds_its_source_and_says_what_it_is(path):
    text = path.read_text()
    assert text.splitlines()[0].startswith(f"# {path.stem}: ")
    config = yaml.safe_load(text)
    kind = config.pop("_target_").removeprefix("fedcl.datasets.")
    kinds = (Digits, ImageFiles, InSequence, NpzFile)
    source = {kind.__name__: kind for kind in kinds}[kind](**config)
    assert source.name == path.stem


def test_configs_cover_every_named_data_set():
    assert {path.stem for path in CONFIGS} == {
        *NAMES,
        "digits",
        "digits_then_fashion",
        "npz",
    }


@pytest.mark.parametrize(
    ("name", "classes"), [("emnist", 47), ("cifar100", 100), ("cifar10", 10), ("svhn", 10)]
)
def test_configs_name_every_class_once_as_text(name, classes):
    names = yaml.safe_load((ROOT / f"configs/dataset/{name}.yaml").read_text())["class_names"]
    assert len(set(names)) == len(names) == classes
    assert all(isinstance(name, str) for name in names)


def test_import_is_quick():
    heavy = "{'torchvision', 'sklearn', 'scipy', 'flwr'} & set(sys.modules)"
    program = f"import sys, fedcl.datasets, fedcl.statistics; sys.exit(len({heavy}))"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
