"""Every strategy runs with a distilled, a decoded and a real memory, or says why it can't."""

import json

import pytest
from toys import SYSTEMS, has_memory

from experiments.build import plan
from experiments.errors import CommandError, RunFailedError
from experiments.listing import known
from experiments.run import run

SMALL = ["network=mlp", "dataset.train_images=60", "stream.experiences=2", "threads=1"]
MEMORIES = {
    "real": ["method=random", "buffer.images=20"],
    "distilled": ["method=dm", "method.iterations=2", "buffer.images=20"],
    "decoded": ["method=dm", "parameterisation=tiles", "method.iterations=1", "buffer.images=40"],
}


def metrics(words: list[str], folder) -> dict:
    path = run("continual", [*words, *SMALL, "training.epochs=1", f"output={folder}"], "test")
    return json.loads((path / "record.json").read_text())["metrics"]


FREE = [s for s in known("continual") if has_memory(s) and s not in SYSTEMS]


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("strategy", FREE)
def test_every_strategy_takes_every_memory(strategy, memory, tmp_path):
    found = metrics([f"continual={strategy}", *MEMORIES[memory]], tmp_path)
    images = int(MEMORIES[memory][-1].partition("=")[2])
    assert 0 < found["buffer_bytes"] <= images * 65
    assert (found["buffer_images"] > images) is (memory == "decoded")
    assert found["average_accuracy"] > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_published_system_brings_its_own_method(system, tmp_path):
    words, images = SYSTEMS[system]
    assert metrics([f"continual={system}", *words], tmp_path)["buffer_images"] == images


@pytest.mark.parametrize("strategy", [s for s in known("continual") if not has_memory(s)])
def test_a_strategy_without_a_memory_keeps_no_image(strategy, tmp_path):
    found = metrics([f"continual={strategy}"], tmp_path)
    images = 60 if strategy == "cumulative" else 0  # which learns all of them again
    assert (found["buffer_images"], found["buffer_bytes"]) == (images, 65 * images)
    assert found["average_accuracy"] > 0


SOFT = "method=dd labels=soft buffer.images=20 buffer.labels=soft"
SHORT = ["objective.inner_steps=2", "method.rate_count=2", "method.iterations=1"]


@pytest.mark.parametrize("strategy", [s for s in FREE if s not in ("icarl", "scr")])
def test_strategies_that_take_distributions_replay_them(strategy, tmp_path):
    found = metrics([f"continual={strategy}", *SOFT.split(), *SHORT], tmp_path)
    # 64 pixels, a byte for the class and two for each of ten shares
    assert (found["buffer_images"], found["buffer_bytes"]) == (20, 20 * 85)
    assert found["average_accuracy"] > 0


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_decoded_sets_keep_distributions_where_asked(labels, tmp_path):
    words = [*SOFT.split(), *SHORT, "parameterisation=tiles", "buffer.images=80"]
    found = metrics(["continual=replay", *words, f"buffer.labels={labels}"], tmp_path)
    # four images in the numbers of one, a byte for each share, and a range for each set
    share = found["buffer_bytes"] / found["buffer_images"]
    assert share < 64 / 4 + 2 if labels == "hard" else 26 < share < 64 / 4 + 12


IMPOSSIBLE = {
    "continual=ewc method=dm": "method",
    "continual=der method=random buffer.images=20 buffer.staged=5": "null where logits are kept",
    "continual=der method=random buffer.bytes=3000 storage=bases": "storage must keep an image",
    "continual=replay method=idc buffer.images=20 buffer.allocation=adaptive": "allocation=fixed",
    "continual=er_ace method=idc buffer.images=20 storage=jpeg": "storage=uint8 or float32",
    "continual=icarl method=random buffer.images=9": "an image of each of 10 classes, got 9",
    "continual=replay method=random buffer.images=20 buffer.staged=5": "training.epochs must be 1",
    "continual=replay method=random buffer.images=20 buffer.labels=soft": "no distributions",
    "continual=replay method=frepo buffer.images=20 buffer.labels=soft": "no distributions",
    f"continual=icarl {SOFT}": "be hard where classes are told apart by features, got soft",
    f"continual=scr {SOFT}": "be hard where classes are told apart by features, got soft",
    f"continual=replay {SOFT} stream=task_incremental": "be hard where images come with their task",
    "continual=composition stream=permuted": "classes must come once with a method",
    "continual=replay method=random": "exactly one of buffer.images and buffer.bytes",
}


@pytest.mark.parametrize("words", IMPOSSIBLE)
def test_what_cannot_be_combined_says_why_before_training(words, tmp_path):
    with pytest.raises((CommandError, ValueError), match=IMPOSSIBLE[words]):
        plan("continual", [*words.split(), *SMALL]).scenario.prepare("cpu")


DIVERGING = {
    "replay": MEMORIES["real"],
    "gdumb": [*MEMORIES["real"], "training.clip=null"],
    "lwf": [],
    "joint": [],
}


@pytest.mark.parametrize("strategy", DIVERGING)
def test_a_run_whose_weights_are_lost_fails(strategy, tmp_path):
    words = [f"continual={strategy}", *DIVERGING[strategy], "training.learning_rate=1e9"]
    with pytest.raises(RunFailedError, match=r"must leave finite weights, .* experience 0; l"):
        metrics([*words, "training.batch=4"], tmp_path)
    (record,) = tmp_path.rglob("record.json")
    assert json.loads(record.read_text())["status"] == "failed"
