"""One call in Python makes the set that the command line makes."""

import json

import numpy as np
import pytest
import torch

from distill.synthetic import SyntheticSet
from experiments.methods import condensed, method, scored
from experiments.run import run

WORDS = {
    "kmeans": ["ipc=2", "network.width=4"],
    "dm": ["ipc=1", "method.iterations=2", "network.width=4", "dataset.mirror=true", "seed=3"],
    "idc": ["ipc=1", "method.iterations=1", "network.width=4"],  # decoded, more images
}


def arrays(channels: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16, channels), dtype=np.uint8)
    labels = np.arange(60) % 3
    return {"x_train": images, "y_train": labels, "x_test": images[:6], "y_test": labels[:6]}


@pytest.mark.parametrize("name", WORDS)
def test_the_set_is_that_of_the_command(name, tmp_path):
    mine = arrays()
    np.savez(tmp_path / "mine.npz", **mine)
    words = [f"method={name}", *WORDS[name], f"dataset.path={tmp_path / 'mine.npz'}", "threads=1"]
    quick = ["evaluation=fast", "evaluation.networks=1", "evaluation.recipe.epochs=1"]
    quick += ["random=false", f"output={tmp_path}"]
    folder = run("distillation", ["dataset=npz", *words, *quick], "test", bar=False)
    theirs = SyntheticSet.load(folder / "synthetic.safetensors")
    ours = condensed(name, mine["x_train"], mine["y_train"].tolist(), "threads=1", *WORDS[name])
    assert ours.data.images.equal(theirs.data.images)
    assert ours.data.labels.equal(theirs.data.labels)
    assert ours.normalisation == theirs.normalisation
    recorded = json.loads((folder / "record.json").read_text())["metrics"]["accuracy"]
    heard = [word for word in WORDS[name] if word.startswith(("network", "seed"))] + quick[:3]
    assert scored(ours, mine["x_test"], mine["y_test"], *heard, "threads=1") == [recorded]


def test_images_without_channels_and_tensors_are_taken():
    mine = arrays(channels=1)
    grey = torch.from_numpy(mine["x_train"][..., 0])
    small = condensed("herding", grey, torch.from_numpy(mine["y_train"]), "ipc=2")
    assert small.data.images.shape == (6, 1, 16, 16)
    pixels = small.normalisation.quantise(small.data.images)
    assert pixels.dtype == torch.uint8
    assert any(pixels[0, 0].equal(image) for image in grey)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ({"x": np.zeros((60, 16, 16))}, [], r"^images must be uint8, got float64; scale pixels"),
        ({"y": np.arange(59) % 3}, [], r"^labels must have shape \(60,\), one label an image, got"),
        (
            {"y": np.arange(60) % 3 * 2},
            [],
            r"^labels must use every class from 0 to 4, got no .* 1$",
        ),
        ({}, ["ipc=0"], r"^ipc must be >= 1, got 0$"),
        ({}, ["network.depth=5"], r"^convnet depth must be <= 4 for images of 16x16, got 5"),
        ({}, ["device=gpu"], r"^unknown device .gpu.; known: auto, cpu, cuda$"),
        ({}, ["dataset.train_images=20"], r"^words must say .* got dataset.train_images=20, which"),
        ({}, ["+evaluation.networks=1"], r"^words must say how images are made small, got \+eval"),
        ({}, ["iterations=3"], r"^unknown setting 'iterations'; did you mean method\.iterations\?"),
    ],
)
def test_what_cannot_be_made_small_is_told(change, words, message):
    mine = arrays()
    images, labels = change.get("x", mine["x_train"]), change.get("y", mine["y_train"])
    with pytest.raises(ValueError, match=message):
        condensed("dm", images, labels, *words)


def test_images_of_other_classes_are_not_scored_on():
    mine = arrays()
    small = condensed("random", mine["x_train"], mine["y_train"], "ipc=1")
    with pytest.raises(ValueError, match=r"^labels must be of 3 classes, got 2$"):
        scored(small, mine["x_test"][:2], [0, 1], "network=mlp")


def test_an_unknown_method_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"^unknown method 'kmean'; did you mean kmeans\?"):
        method("kmean")
