"""Every stream runs with methods of every kind, uses its images as it says, and resumes."""

import json
from collections import Counter
from functools import cache
from itertools import chain

import numpy as np
import pytest
import torch

from experiments import pace
from experiments.build import plan
from experiments.cli import main
from experiments.errors import CommandError
from experiments.listing import known
from experiments.run import forecast, run

TOY = {"sequence": ["stream.sizes=[4,6]"], "rotated": ["stream.experiences=3"]}
TOY |= {"permuted": ["stream.experiences=3"], "blurry": ["stream.experiences=2"]}
SMALL = ["network=mlp", "dataset.train_images=60", "training.epochs=1", "threads=1"]
MEMORY = ["method=random", "buffer.images=20"]
STAGED = 10
METHODS = {"naive": [], "joint": [], "cumulative": [], "replay": MEMORY, "gdumb": MEMORY}


def words_of(stream: str, method: str = "naive") -> list[str]:
    staged = [f"buffer.staged={STAGED}"] if METHODS[method] and stream == "online" else []
    return [
        *(f"stream={stream}", *TOY.get(stream, [])),
        *(f"continual={method}", *METHODS[method], *staged, *SMALL),
    ]


@cache
def experiences(stream: str, seed: int = 0):
    scenario = plan("continual", words_of(stream)).scenario
    data = scenario.dataset.load(0)
    return scenario.stream.divide(data.normalised(data.train), data.normalised(data.test), seed)


def shown(stream) -> list:
    """Every training image of every experience, with its class."""
    parts = [experience.train.images() for experience in stream]
    return [(part.images.tolist(), part.labels.tolist()) for part in parts]


@pytest.mark.parametrize("method", ["joint", "cumulative"])
def test_a_row_says_which_classes_came(method, tmp_path):
    words = [*words_of("class_incremental", method), f"output={tmp_path}"]
    record = json.loads((run("continual", words, "test") / "record.json").read_text())
    metrics, first = record["metrics"], record["history"][0]["classes"]
    came = metrics["experience_classes"][0] if method == "cumulative" else metrics["class_order"]
    assert first == came


@pytest.mark.parametrize("stream", known("stream"))
@pytest.mark.parametrize("method", ["naive", "replay", "gdumb"])
def test_every_stream_is_learnt_by_every_kind_of_method(stream, method, tmp_path):
    words = [*words_of(stream, method), f"output={tmp_path}"]
    record = json.loads((run("continual", words, "test") / "record.json").read_text())
    groups = record["metrics"]["experience_classes"]
    assert len(record["history"]) == len(groups) == len(experiences(stream))
    assert sorted(record["metrics"]["class_order"]) == list(range(10))
    assert np.array(record["metrics"]["accuracy_matrix"]).shape == (len(groups), len(groups))
    assert record["metrics"]["buffer_images"] == (0 if method == "naive" else 20)


@pytest.mark.parametrize("method", ["joint", "cumulative"])
def test_bounds_learn_every_view_of_a_domain_incremental_stream(method, tmp_path):
    words = [*words_of("permuted", method), f"output={tmp_path}"]
    record = json.loads((run("continual", words, "test") / "record.json").read_text())
    # One epoch of 60 images in 3 orders; cumulatively of 1 + 2 + 3 times as many.
    assert record["metrics"]["samples"] == 60 * {"joint": 3, "cumulative": 6}[method]


@pytest.mark.parametrize("stream", known("stream"))
def test_every_stream_can_be_planned(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "LOOK", 0.0)
    told = forecast(plan("continual", [*words_of(stream, "replay"), f"output={tmp_path}"]))
    assert told.value("buffer") == (20 + STAGED * (stream == "online")) * 65
    assert told.value("time") > 0


@pytest.mark.parametrize("stream", known("stream"))
def test_equal_seeds_give_equal_streams_and_others_another(stream):
    first = experiences(stream)
    experiences.cache_clear()
    assert shown(first) == shown(experiences(stream))
    random = stream != "sequence"
    assert (shown(first) != shown(experiences(stream, seed=1))) is random


@pytest.mark.parametrize("stream", known("stream"))
def test_every_training_image_comes_as_often_as_the_stream_says(stream):
    times = Counter(chain(*(e.train.rows.tolist() for e in experiences(stream))))
    assert times == dict.fromkeys(range(60), 3 if stream == "permuted" else 1)


@pytest.mark.parametrize("stream", ["permuted", "blurry"])
def test_a_learner_goes_on_bit_identically_between_experiences(stream):
    words = [*words_of(stream, "replay"), "stream.experiences=3"]
    whole, first, second = (
        plan("continual", words).scenario.prepare("cpu").learner for _ in range(3)
    )
    for index in range(3):
        whole.learn(index)
    for index in range(2):
        first.learn(index)
    second.restore(first.state())
    second.learn(2)
    assert second.memory.data().images.equal(whole.memory.data().images)
    for mine, theirs in zip(second.network.parameters(), whole.network.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_online_streams_take_one_pass_in_batches_of_ten_unless_a_method_trains_on_its_memory():
    def recipe(method):
        words = [word for word in words_of("online", method) if word != "training.epochs=1"]
        return plan("continual", words).scenario.training

    recipes = {method: recipe(method) for method in ("naive", "gdumb")}
    assert (recipes["naive"].epochs, recipes["naive"].batch) == (1, 10)
    assert recipes["naive"].learning_rate == 0.1
    assert recipes["gdumb"].epochs == 128


@pytest.mark.parametrize("network", ["mlp", "convnet"])
def test_experiences_of_a_single_image_are_learnt(network, tmp_path):
    words = ["dataset.train_images=10", "stream.experiences=10", f"network={network}"]
    words = ["continual=replay", *MEMORY, *words, "threads=1", f"output={tmp_path}"]
    record = json.loads((run("continual", words, "test") / "record.json").read_text())
    assert record["metrics"]["buffer_images"] == 10
    assert record["metrics"]["learning_accuracy"] > 0


@pytest.mark.parametrize(
    ("lacking", "rest"), [("x_test", [0, 2, 2]), ("x_train", [0, 0, 1, 1, 2, 0])]
)
def test_classes_without_images_are_refused_in_a_line_before_training(
    lacking, rest, tmp_path, capsys
):
    # No test image of class 1; one training image of class 2, which two shares cannot have.
    labels = {"x_train": [0, 1, 2, 0, 1, 2], "x_test": [0, 1, 2]} | {lacking: rest}
    arrays = {name: np.zeros((len(y), 8, 8), np.uint8) for name, y in labels.items()}
    arrays |= {name.replace("x", "y"): np.array(y) for name, y in labels.items()}
    np.savez(tmp_path / "mine.npz", **arrays)
    words = ["stream=rotated", "stream.experiences=2", "continual=naive", "network=mlp"]
    words += ["dataset=npz", f"dataset.path={tmp_path / 'mine.npz'}", f"output={tmp_path / 'runs'}"]
    assert main(["continual", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "an experience must have" in line
    assert not (tmp_path / "runs").exists()


def test_clients_refuse_an_experience_without_test_images_before_they_begin(tmp_path, capsys):
    labels = {"train": [0, 1, 2, 0, 1, 2], "test": [0, 2, 2]}
    arrays = {f"x_{part}": np.zeros((len(y), 8, 8), np.uint8) for part, y in labels.items()}
    np.savez(tmp_path / "mine.npz", **arrays, **{f"y_{p}": np.array(y) for p, y in labels.items()})
    words = ["federated_continual=fedavg", "clients=2", "rounds=1", "network=mlp"]
    words += ["stream.experiences=3", f"output={tmp_path / 'runs'}"]
    words += ["dataset=npz", f"dataset.path={tmp_path / 'mine.npz'}"]
    assert main(["federated-continual", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "an experience must have test images of each of its classes, got none of class 1" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stream", ["permuted", "rotated", "blurry"])
def test_clients_refuse_a_stream_whose_classes_come_back(stream):
    with pytest.raises(CommandError, match="stream must bring classes that never come back"):
        plan("federated_continual", ["federated_continual=fedavg", f"stream={stream}"])


def test_clients_refuse_a_stream_that_tells_tasks():
    words = ["federated_continual=fedavg", "stream=task_incremental"]
    with pytest.raises(CommandError, match=r"tells_tasks must be false .* got true; take stream="):
        plan("federated_continual", words)


@pytest.mark.parametrize(
    ("kind", "words", "message"),
    [
        (
            "continual",
            "continual=naive training.epochs=2",
            r"^training\.epochs must be 1 .* got 2;",
        ),
        *(
            (
                "continual",
                f"continual={method} method={filler} buffer.images=20 training.epochs=1",
                r"^buffer\.staged must be given where stream.online is true, .* got null; take",
            )
            for method, filler in (("er_ace", "random"), ("gdumb", "dm"), ("replay", "idc"))
        ),
        (
            "federated_continual",
            "federated_continual=fedavg rounds=3 training.epochs=2",
            r"^rounds x training\.epochs must be 1 .* got 6; take rounds=1",
        ),
        (
            "federated_continual",
            "federated_continual=shared_buffer method=random buffer.images=20 rounds=2",
            r"^rounds x training\.epochs must be 1 .* got 2;",
        ),
    ],
)
def test_an_online_stream_is_not_seen_twice(kind, words, message):
    with pytest.raises(CommandError, match=message):
        plan(kind, ["stream=online", *words.split()])


def test_an_online_stream_may_be_learnt_again_by_the_reference_of_all_images_at_once():
    plan("continual", ["stream=online", "continual=joint", "training.epochs=5"])
    plan("federated_continual", ["stream=online", "federated_continual=fedavg", "rounds=1"])


def test_an_experience_of_fewer_images_than_clients_is_named(tmp_path, capsys):
    words = ["federated_continual=fedavg", "rounds=1", "network=mlp", "dataset.train_images=60"]
    words += ["clients=20", "stream.experiences=10", f"output={tmp_path / 'runs'}"]
    assert main(["federated-continual", *words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "fedcl: in experience 1, clients must be <= 6, the number of images, got 20"
