"""Attacks and defences by name: they compose, are recorded, resume, and refuse in a line."""

import json

import numpy as np
import pytest
import torch

from experiments.build import plan
from experiments.cli import main
from experiments.listing import known
from experiments.record import RunFolder
from experiments.run import run

SMALL = ["dataset.train_images=200", "clients=6", "network=mlp", "ipc=2", "threads=1"]
QUICK = ["evaluation.recipe.epochs=2", "evaluation.recipe.decay_after=1"]
ONE_SHOT = ["federated=one_shot", "method=random", *SMALL, *QUICK]
WORDS = [*ONE_SHOT, "attack=backdoor", "defence=class_means", "partition=iid"]


def record_of(words, output):
    folder = run("federated", [*words, f"output={output}"], "test", bar=False)
    return json.loads((folder / "record.json").read_text()), folder


@pytest.mark.parametrize("group", ["attack", "defence"])
def test_every_choice_builds(group):
    for name in known(group):
        chosen = getattr(plan("federated", [*ONE_SHOT, f"{group}={name}"]).scenario, group)
        assert (chosen is None) == (name == "none")


def test_a_record_says_what_came_of_it(tmp_path):
    record, folder = record_of(WORDS, tmp_path)
    metrics = record["metrics"]
    assert len(metrics["malicious"]) == 1
    assert 0 <= metrics["attack_success"] <= 1
    assert metrics["rejected_malicious"] == 1
    assert metrics["rejected_honest"] == 0
    assert metrics["origin"] == "real"
    clients = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    rejected = {row["client"]: row["rejected"] for row in clients if row["rejected"]}
    assert list(rejected) == metrics["malicious"]
    assert rejected.popitem()[1].startswith("class 0 lies ")


def test_an_honest_run_records_none_of_it(tmp_path):
    metrics = record_of(ONE_SHOT, tmp_path)[0]["metrics"]
    assert not {"malicious", "attack_success", "rejected_honest"} & set(metrics)


def test_a_run_goes_on_with_the_rejections_of_its_first_rounds(tmp_path):
    words = [*SMALL, "federated=feddm", "method=random", "rounds=3", "evaluation.recipe.epochs=1"]
    words += ["attack=backdoor", "defence=krum", "partition=iid"]
    unbroken, _ = record_of(words, tmp_path / "whole")
    planned = plan("federated", [*words, f"output={tmp_path / 'killed'}"])
    folder = RunFolder(tmp_path / "killed" / "federated" / planned.name / planned.config_hash)
    folder.begin(planned.config)
    torch.set_num_threads(1)
    steps = planned.scenario.prepare("cpu").steps(folder)
    next(steps)
    next(steps)
    steps.close()
    assert record_of(words, tmp_path / "killed")[0]["metrics"] == unbroken["metrics"]


WRONG = {
    "federated=fedavg defence=krum": "defence must be none for a method that uploads no small sets",
    "federated=fedavg attack=backdoor": "attack must work on a client's data",
    "federated=one_shot method=random attack=backdoor attack.clients=11": "attack.clients must be",
    "federated=one_shot method=random defence=leave_one_out": "dataset.validation must be > 0",
    "federated=one_shot method=random attack=nope": "backdoor, colluding",
    "federated=fedavg attack=label_flip attack.source=10": "attack.source must be < 10",
    (
        "federated=fedavg attack=label_flip attack.source=1 attack.target=1"
    ): "attack.target must be another class than 1",
    "federated=fedavg attack=malformed compression=f16": "compression must be none upwards",
    "federated=one_shot method=random ipc=1 defence=median": "ipc must be >= 2 for this defence",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_refused_in_a_line(words, capsys, tmp_path):
    assert main(["federated", *words.split(), f"output={tmp_path}"]) == 2
    error = capsys.readouterr().err.strip()
    assert WRONG[words] in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir())


def test_an_attack_by_a_class_without_test_images_is_refused_before_the_rounds(capsys, tmp_path):
    labels = {"train": [0, 1, 2, 3] * 3, "test": [0, 1, 2]}
    arrays = {f"x_{part}": np.zeros((len(y), 8, 8), np.uint8) for part, y in labels.items()}
    np.savez(tmp_path / "mine.npz", **arrays, **{f"y_{p}": np.array(y) for p, y in labels.items()})
    words = ["federated=fedavg", "rounds=1", "clients=2", "network=mlp", "partition=iid"]
    words += ["attack=label_flip", "attack.source=3", "attack.target=1"]
    words += ["dataset=npz", f"dataset.path={tmp_path / 'mine.npz'}"]
    assert main(["federated", *words, f"output={tmp_path / 'runs'}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "attack.source must be a class that has test images, 0, 1, 2 here, got 3" in line
    assert not (tmp_path / "runs").exists()
