"""What ``fedcl plan`` prints before anything runs."""

import json
import re
from pathlib import Path

import pytest

from experiments import pace
from experiments.build import plan
from experiments.cli import main
from experiments.compare import Arm, Comparison
from experiments.planning import comparison_lines, planning
from experiments.run import forecast, run

RUN = ["federated=fedavg", "rounds=2", "clients=3", "network=mlp", "dataset.train_images=60"]
VERBS = {
    "distill": "method=dm method.iterations=40 ipc=2 network=mlp evaluation.networks=3",
    "federated": " ".join(RUN),
    "continual": "continual=replay method=kmeans buffer.images=20 network=mlp training.epochs=1",
    "federated-continual": (
        "federated_continual=shared_buffer method=random buffer.images=20 rounds=1 network=mlp"
    ),
}


@pytest.fixture(autouse=True)
def _glances(monkeypatch):
    monkeypatch.setattr(pace, "LOOK", 0.0)


def planned(*words: str, folder: Path) -> dict[str, str]:
    """The printed lines, by their first word."""
    lines = planning([*words, "threads=1", f"output={folder}"]).splitlines()
    return {line.split()[0]: line for line in lines if line}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_memory_and_time_and_leaves_nothing(verb, tmp_path, capsys):
    words = ["plan", verb, *VERBS[verb].split(), "threads=1", f"output={tmp_path / 'runs'}"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^memory +[\d.]+ [MG]B ", printed, re.MULTILINE)
    assert re.search(r"^time +[\d.]+ s ", printed, re.MULTILINE)
    assert "not predicted" not in printed
    assert max(map(len, printed.splitlines()[2:])) <= 120
    assert list(tmp_path.iterdir()) == []


STREAMS = ["clients=2", "network=mlp", "dataset.train_images=200", "stream.experiences=2"]
FEDERATIONS = {
    "federated": [*RUN, "compression=int8", "participation=0.67"],
    "shared": ["federated_continual=shared_buffer", "rounds=2", *STREAMS],
    "local": ["federated_continual=local_replay", "rounds=2", *STREAMS],
}


@pytest.mark.parametrize("name", FEDERATIONS)
def test_predicted_bytes_are_those_of_the_run(name, tmp_path):
    kind = "federated" if name == "federated" else "federated_continual"
    memory = [] if name == "federated" else ["method=random", "buffer.images=20"]
    words = [*FEDERATIONS[name], *memory, "threads=1", f"output={tmp_path}"]
    told = forecast(plan(kind, words))
    record = json.loads((run(kind, words, "test") / "record.json").read_text())
    for way in ("up", "down"):
        assert told.value(way) == record["metrics"][f"bytes_{way}"]


@pytest.mark.parametrize(
    ("words", "certainty"),
    [
        ([], "exact while no client fails"),
        (["target=0.9"], "at most, for the target ends it"),
        (["attack=label_flip", "attack.source=4"], "as if all clients were honest"),
    ],
)
def test_a_plan_says_how_surely_it_knows_the_bytes(words, certainty, tmp_path):
    told = planned("federated", *RUN, *words, folder=tmp_path)
    assert certainty in told["up"]
    assert certainty in told["down"]


@pytest.mark.parametrize(
    "words",
    [
        "continual=replay method=random buffer.images=20",
        "continual=replay method=random buffer.images=20 stream=online buffer.staged=50",
        "continual=cumulative",
        "continual=naive",
    ],
)
def test_predicted_bytes_of_a_memory_are_those_of_the_run(words, tmp_path):
    every = [*words.split(), "network=mlp", "dataset.train_images=300", f"output={tmp_path}"]
    told = forecast(plan("continual", every)).value("buffer")
    folder = run("continual", [*every, "threads=1"], "test")
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    assert told == metrics["buffer_bytes"]
    assert metrics.get("buffer_allowed") == (20 * 65 if "buffer.images=20" in words else None)


def test_a_plan_names_the_run_that_is_there_already(tmp_path):
    assert "to be run, into" in planned("federated", *RUN, folder=tmp_path)["fedavg"]
    folder = run("federated", [*RUN, "threads=1", f"output={tmp_path}"], "test")
    assert f"completed, in {folder}" in planned("federated", *RUN, folder=tmp_path)["fedavg"]


def test_what_shows_no_pace_is_not_predicted(tmp_path, monkeypatch):
    monkeypatch.setattr(pace, "PATIENCE", 1e-4)
    lines = planned("federated", *RUN, folder=tmp_path)
    assert "not predicted: a part of it is not known" in lines["time"]
    assert "not predicted: shows no pace" in lines["local"]
    assert "exact" in lines["up"]


def test_a_comparison_is_told_by_arm_without_what_is_finished(tmp_path):
    words = [*RUN, "threads=1", f"output={tmp_path}"]
    arms = [
        Arm("federated", (*words, f"training.epochs={e}", f"seed={s}"))
        for s in (0, 1)
        for e in (1, 2)
    ]
    run("federated", list(arms[0].words), "test")
    text = "\n".join(comparison_lines(Comparison("x", "Title", arms, 2, 1, tmp_path)))
    assert "4 runs, 1 of them finished" in text
    lefts = {line.split()[-1]: line.split()[0] for line in text.splitlines() if "epochs" in line}
    assert lefts == {"training.epochs=1": "1", "training.epochs=2": "2"}


@pytest.mark.parametrize("words", [[], ["report"], ["compare", "nothing"], ["federated", "x=1"]])
def test_what_cannot_be_planned_is_refused_in_a_line(words, capsys):
    assert main(["plan", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
