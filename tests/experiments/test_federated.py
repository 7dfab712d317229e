"""What clients of a composed federated run have, and what its network is worth to them."""

import json
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import pytest
import torch
from toys import SMALL_WORLD, small_federation

from experiments.build import plan
from experiments.cli import main
from experiments.errors import CommandError, RunFailedError
from experiments.listing import config_folder, known
from experiments.record import RunFolder
from experiments.run import run
from experiments.scenarios.base import Progress
from fedcl.federated.base import Sketching
from fedcl.federated.rehearsal import Round, UnknownError, rehearse
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import thaw

RUNS = {
    "federated": ["federated=fedavg", "clients=3", "network=mlp"],
    "federated_continual": [
        "federated_continual=fedavg",
        "clients=3",
        "network=mlp",
        "stream.experiences=2",
    ],
}


def prepared(kind: str, *words: str):
    return plan(kind, [*RUNS[kind], *words]).scenario.prepare("cpu")


@pytest.mark.parametrize("kind", RUNS)
def test_clients_train_on_images_as_they_see_them(kind):
    # Clients of 3 see noise of 0.1, 0.2 and 0.3 on pixels; the digits' deviation is 0.3761.
    plain = prepared(kind, "partition=iid").world
    noisy = prepared(kind, "partition=iid", "shift=noise", "shift.sigma=0.3").world
    noises = [
        [after.images - before.images for before, after in zip(*client, strict=True)]
        for client in zip(plain.clients, noisy.clients, strict=True)
    ]
    for client, parts in enumerate(noises):
        deviation = torch.cat(parts).std().item()
        assert deviation == pytest.approx(0.1 * (client + 1) / 0.3761, rel=0.02)
    drawn = [part[:100] / part.std() for parts in noises for part in parts]
    for i, noise in enumerate(drawn):
        assert all((noise - other).abs().max() > 1 for other in drawn[:i])


@pytest.mark.parametrize("kind", RUNS)
def test_a_shift_leaves_the_partition_as_it_is(kind):
    plain, turned = (prepared(kind, f"shift={name}").world for name in ("none", "rotation"))
    for before, after in zip(plain.clients, turned.clients, strict=True):
        assert [part.labels.tolist() for part in before] == [part.labels.tolist() for part in after]


@pytest.mark.parametrize("kind", RUNS)
def test_a_shift_is_measured_and_pictured(kind, tmp_path):
    # Noise of 0.1, 0.2 and 0.3 on pixels; the deviation of the test images that are shown is 0.37.
    words = [*RUNS[kind], "partition=iid"]
    for shift, measured in (([], 0.0), (["shift=noise", "shift.sigma=0.3"], 0.2 / 0.37)):
        folder = run(kind, [*words, *shift, f"output={tmp_path}"], "test", bar=False)
        metrics = json.loads((folder / "record.json").read_text())["metrics"]
        assert metrics["feature_shift"] == pytest.approx(measured, rel=0.05)
        assert 0 <= metrics["quantity_skew"] < 0.01
        assert (folder / "figures" / "shift.png").exists() is bool(shift)


# -- accuracies of clients ----------------------------------------------------------------

ONE_CLASS_EACH = [
    *("federated=fedavg", "rounds=1", "training.epochs=5", "network=mlp", "threads=1"),
    *("clients=10", "partition=classes", "partition.classes=1"),
]
# Steps so small that not every client of a class learns to answer nothing but it.
PERSONALISE = ["personalise=local", "personalise.epochs=1", "personalise.learning_rate=0.003"]


def record_of(kind: str, words: list[str], output: Path) -> dict:
    folder = run(kind, [*words, f"output={output}"], "test", bar=False)
    return json.loads((folder / "record.json").read_text())


def mean_over_test_images(metrics: dict) -> float:
    """The mean of clients' accuracies, each client weighted by the test images of its class."""
    data = plan("federated", ["federated=fedavg"]).scenario.dataset.load(0)
    weights = [data.test.counts[row.index(max(row))].item() for row in metrics["class_counts"]]
    pairs = zip(weights, metrics["client_accuracies"], strict=True)
    return sum(weight * accuracy for weight, accuracy in pairs) / sum(weights)


def test_clients_of_one_class_make_up_the_accuracy(tmp_path):
    metrics = record_of("federated", ONE_CLASS_EACH, tmp_path)["metrics"]
    assert mean_over_test_images(metrics) == pytest.approx(metrics["accuracy"])
    assert metrics["mean_client_accuracy"] == pytest.approx(fmean(metrics["client_accuracies"]))
    assert metrics["worst_client_accuracy"] == min(metrics["client_accuracies"])
    assert min(metrics["client_accuracies"]) < max(metrics["client_accuracies"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("federated", ["federated=fedavg", "rounds=2"]),
        ("federated_continual", ["federated_continual=fedavg", "rounds=1", "stream.experiences=2"]),
    ],
)
def test_progress_moves_within_a_round(kind, words, tmp_path):
    shown = list[Progress]()
    folder = RunFolder(tmp_path, shown.append)
    words = [*words, "network=mlp", "clients=4", "partition=iid"]
    steps = plan(kind, words).scenario.prepare("cpu").steps(folder)
    rounds = [progress.done for progress in steps]
    assert rounds == [1, 2]
    quarters = [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    assert [p.done for p in shown] == pytest.approx(quarters, abs=0.01)
    assert {p.total for p in shown} == {2}


class Bar:
    """Notes where it stood each time that it was drawn."""

    drawn: ClassVar[list] = []
    total, n, initial = None, 0.0, 0.0

    def __init__(self, disable, leave):
        self.drawn.clear()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def set_description(self, text, refresh):
        pass

    def refresh(self):
        self.drawn.append((self.initial, self.n, self.total))


def test_bar_shows_what_a_run_notes(monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.run.tqdm", Bar)
    words = ["federated=fedavg", "rounds=1", "network=mlp", "clients=2", "partition=iid"]
    record_of("federated", [*words, "threads=1"], tmp_path)
    assert [round(n, 1) for _, n, _ in Bar.drawn] == [0.5, 1.0, 1.0]
    assert {(initial, total) for initial, _, total in Bar.drawn} == {(0, 1)}


def test_clients_are_scored_on_test_images_as_they_see_them(tmp_path):
    metrics = record_of("federated", [*ONE_CLASS_EACH, "shift=rotation"], tmp_path)["metrics"]
    assert abs(mean_over_test_images(metrics) - metrics["accuracy"]) > 0.01


def test_the_client_of_a_stream_is_scored_on_all_its_experiences(tmp_path):
    # Ten experiences of a class each, so that the matrix's last row is the classes' accuracies.
    words = ["federated_continual=fedavg", "rounds=1", "network=mlp", "threads=1"]
    words += ["clients=1", "stream.experiences=10"]
    metrics = record_of("federated_continual", words, tmp_path)["metrics"]
    (counts,), row = metrics["class_counts"], metrics["accuracy_matrix"][-1]
    held = [counts[label] for label in metrics["class_order"]]
    expected = sum(n * a for n, a in zip(held, row, strict=True)) / sum(held)
    assert metrics["client_accuracies"] == [pytest.approx(expected)]
    assert 0 < expected < 1


@pytest.mark.parametrize("name", ["f16", "int8", "sign", "topk"])
def test_either_way_can_be_left_as_it_is(name):
    for way, other in (("up", "down"), ("down", "up")):
        words = ["federated=fedavg", f"compression={name}", f"compression.{way}=null"]
        channel = plan("federated", words).scenario.compression
        assert getattr(channel, way) is None
        assert getattr(channel, other) is not None


def test_personalising_adds_its_own_numbers_and_alters_no_others(tmp_path):
    plain = record_of("federated", ONE_CLASS_EACH, tmp_path)["metrics"]
    words = [*ONE_CLASS_EACH, *PERSONALISE]
    metrics = record_of("federated", words, tmp_path)["metrics"]
    own = metrics.pop("personalised_accuracies")
    assert metrics.pop("personalised_accuracy") == pytest.approx(fmean(own))
    assert metrics.pop("worst_personalised_accuracy") == min(own)
    assert len(own) == 10
    assert min(own) < max(own)
    assert fmean(own) > plain["mean_client_accuracy"]
    assert metrics == plain


def test_a_run_killed_while_clients_train_on_their_own_resumes(tmp_path):
    words = [*ONE_CLASS_EACH, *PERSONALISE]
    unbroken = record_of("federated", words, tmp_path / "whole")
    planned = plan("federated", [*words, f"output={tmp_path / 'killed'}"])
    folder = RunFolder(tmp_path / "killed" / "federated" / planned.name / planned.config_hash)
    folder.begin(planned.config)
    steps = planned.scenario.prepare("cpu").steps(folder)
    while not next(steps).text.startswith("clients train"):
        pass
    steps.close()
    assert record_of("federated", words, tmp_path / "killed")["metrics"] == unbroken["metrics"]


@pytest.fixture(scope="module")
def toy_record(tmp_path_factory):
    """What a method's run at toy size left; it is made once."""
    output = tmp_path_factory.mktemp("toy")
    return cache(lambda method: record_of("federated", small_federation(method), output))


@pytest.mark.parametrize("method", known("federated"))
def test_every_federated_method_runs_on_digits(method, toy_record):
    record = toy_record(method)
    assert record["status"] == "completed"
    assert record["metrics"]["failures"] == 0
    assert 0 < record["metrics"]["accuracy"] < 1
    assert record["metrics"]["bytes_up"] > 0


@pytest.mark.parametrize("method", known("federated"))
def test_a_rehearsal_sends_the_bytes_of_the_run_or_says_that_it_cannot(method, toy_record):
    scenario = plan("federated", small_federation(method)).scenario
    rounds = [Round(n, 0, "update") for n in range(1, scenario.federated.rounds + 1)]
    ready, rules = scenario.prepare("cpu"), Rules(1.0, 1.0)
    if not isinstance(scenario.federated, Sketching):
        with pytest.raises(UnknownError, match="does not sketch"):
            rehearse(ready.methods(), ready.world, rules, ready.channel, rounds)
        return
    rehearsal = rehearse(ready.methods(), ready.world, rules, ready.channel, rounds)
    for report, row in zip(rehearsal.reports, toy_record(method)["history"], strict=True):
        for key in ("bytes_up", "bytes_down"):
            assert report.totals[key] == row[key]


@pytest.mark.parametrize("method", known("federated"))
def test_whether_clients_keep_a_state_is_said(method):
    ready = plan("federated", small_federation(method)).scenario.prepare("cpu")
    simulation = Simulation(ready.methods(), ready.world, Rules(1.0, 1.0))
    simulation.play("update", 1)
    kept = [thaw(state) for state in simulation.grid.states.values()]
    assert any(map(len, kept)) is ready.methods()["update"].keeps_state
    assert ready.resumable is not ready.methods()["update"].keeps_state


@pytest.mark.parametrize("method", known("federated"))
def test_every_federated_method_is_described_in_a_line(method):
    text = (config_folder() / "federated" / f"{method}.yaml").read_text()
    assert text.removeprefix("# @package _global_\n").startswith(f"# {method}: ")


WRONG = {
    "federated=dynafed ipc=2 objective=trajectory": "method must match a given trajectory",
    "federated=dynafed ipc=2 start=real": "start must be noise where a server without real images",
    "federated=collabdm ipc=2 start=kmeans": "start must be noise where a server without real",
    "federated=dynafed ipc=2 federated.collecting=1": "objective.terminal.span must be <= fed",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_server_without_images_refuses_what_needs_them(words):
    with pytest.raises(CommandError, match=WRONG[words]):
        plan("federated", words.split())


def test_a_plan_of_rounds_that_would_fail_says_so(tmp_path, capsys):
    words = ["federated=fedavg", *SMALL_WORLD, "link=mobile", "link.deadline=0.01"]
    assert main(["plan", "federated", *words, f"output={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("fedcl: the run would fail: min_completion")


@pytest.mark.parametrize(
    ("method", "origin", "set_by"),
    [
        ("one_shot", "real", "clients"),
        ("dosfl", "noise", "clients"),
        ("collabdm", "noise", "server"),
        ("dynafed", "noise", "server"),
        ("fedlgd", "noise", "server"),
    ],
)
def test_a_record_says_who_made_a_set_and_from_what(method, origin, set_by, toy_record):
    metrics = toy_record(method)["metrics"]
    assert (metrics["origin"], metrics["set_by"]) == (origin, set_by)


TARGET = ["federated=fedavg", "network=mlp", "clients=3", "threads=1", "rounds=6"]


def accuracies(folder: Path) -> list[float]:
    return [row["accuracy"] for row in json.loads((folder / "record.json").read_text())["history"]]


def test_a_run_ends_at_the_first_round_that_reaches_its_target(tmp_path):
    whole = accuracies(run("federated", [*TARGET, f"output={tmp_path}"], "test"))
    target = sorted(whole)[2]
    cut = accuracies(run("federated", [*TARGET, f"target={target}", f"output={tmp_path}"], "test"))
    first = next(i for i, accuracy in enumerate(whole) if accuracy >= target)
    assert cut == whole[: first + 1]
    assert len(cut) < len(whole)


def test_a_run_that_misses_its_target_fails_and_keeps_its_state(tmp_path):
    with pytest.raises(
        RunFailedError, match=r"target must be reached, got accuracy 0\.\d+ at most"
    ):
        run("federated", [*TARGET, "target=1.0", f"output={tmp_path}"], "test")
    (record,) = tmp_path.rglob("record.json")
    assert json.loads(record.read_text())["status"] == "failed"
    assert (record.parent / "checkpoint" / "state.pt").exists()


@pytest.mark.parametrize("target", ["0", "1.5"])
def test_a_target_outside_its_range_is_refused(target):
    with pytest.raises(CommandError, match="target must be"):
        plan("federated", [*TARGET, f"target={target}"])


# -- who is there, and what time it takes -------------------------------------------------

WORLD = {
    "federated": ["federated=scaffold", "rounds=4", "availability.joins=2"],
    "federated_continual": [
        *("federated_continual=local_replay", "method=random", "buffer.images=20", "rounds=1"),
        "stream.experiences=2",
    ],
}
UNRELIABLE = [
    *("availability=unreliable", "availability.dropout=0.3", "min_completion=0"),
    *("link=mobile", "link.stragglers=0.2", "link.deadline=9", *SMALL_WORLD, "clients=5"),
]


def rows_in(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]


def test_memories_change_neither_who_is_there_nor_what_an_asked_client_draws(tmp_path):
    words = [*UNRELIABLE, "participation=0.6", "rounds=2", "stream.experiences=2"]
    met, learnt = [], []
    for method in known("federated_continual"):
        memory = [] if method == "fedavg" else ["method=random", "buffer.images=20"]
        words_of = [f"federated_continual={method}", *memory, *words, f"output={tmp_path}"]
        folder = run("federated_continual", words_of, command="test")
        rows = {"learn": [], "remember": []}
        for row in rows_in(folder):
            rows[row["action"]].append((row["round"], row["client"], row["failure"]))
        last = [row for row in rows["learn"] if row[0] in (2, 4)]
        assert rows["remember"] == ([] if method == "fedavg" else last)
        met.append(rows["learn"])
        history = json.loads((folder / "record.json").read_text())["history"]
        learnt.append(history[1]["accuracies"])  # nothing is remembered yet
    assert {number for number, _, _ in met[0]} == {1, 2, 3, 4}
    assert met == [met[0]] * 3
    assert learnt == [learnt[0]] * 3


@pytest.mark.parametrize("kind", WORLD)
def test_a_killed_run_goes_on_with_the_same_dropouts_and_times(kind, tmp_path):
    words = [*WORLD[kind], *UNRELIABLE]
    planned = plan(kind, [*words, f"output={tmp_path / 'killed'}"])
    folder = RunFolder(tmp_path / "killed" / kind / planned.name / planned.config_hash)
    folder.begin(planned.config)
    steps = planned.scenario.prepare("cpu").steps(folder)
    next(steps)
    next(steps)
    steps.close()
    records = [record_of(kind, words, tmp_path / name) for name in ("whole", "killed")]
    whole, killed = (
        (r["metrics"], [{**row, "seconds": None} for row in r["history"]]) for r in records
    )
    assert killed == whole


def test_a_record_adds_up_the_bytes_and_seconds_of_its_clients(tmp_path):
    words = [*WORLD["federated"], *UNRELIABLE, f"output={tmp_path}"]
    folder = run("federated", words, "test", bar=False)
    record, rows = json.loads((folder / "record.json").read_text()), rows_in(folder)
    metrics, history = record["metrics"], record["history"]
    assert {row["failure"] is None for row in rows} == {True, False}
    sent = [
        sum(row["bytes_up"] + row["bytes_down"] for row in rows if row["client"] == client)
        for client in range(5)
    ]
    assert metrics["bytes_per_client_max"] == max(sent)
    assert metrics["bytes_per_client_mean"] == round(sum(sent) / 5)
    assert metrics["failures"] == sum(row["failure"] is not None for row in rows)
    assert metrics["simulated_seconds"] == sum(row["simulated_seconds"] for row in history)
    (late,) = metrics["late_joiners"]
    assert [row["round"] for row in rows if row["client"] == late] == [2, 3, 4]
    assert len(metrics["stragglers"]) == 1


@pytest.mark.parametrize("kind", WORLD)
def test_a_round_that_fails_tells_its_clients_reasons(kind, tmp_path):
    words = [*WORLD[kind], *UNRELIABLE, "availability.joins=1", "min_completion=0.7", "seed=6"]
    with pytest.raises(RunFailedError, match="min_completion must be reached"):
        run(kind, [*words, f"output={tmp_path}"], "test", bar=False)
    (folder,) = (file.parent for file in tmp_path.rglob("record.json"))
    error, rows = json.loads((folder / "record.json").read_text())["error"], rows_in(folder)
    last = [row for row in rows if row["round"] == rows[-1]["round"]]
    failed = [row for row in last if row["failure"] is not None]
    assert 0.7 * len(last) > len(last) - len(failed)
    assert all(row["failure"] in error for row in failed)
    assert rows[0]["round"] == 1 < rows[-1]["round"]


def test_who_never_took_part_counts_in_the_mean_of_clients(tmp_path):
    words = ["federated=fedavg", "rounds=1", "clients=2", "participation=0.5", *SMALL_WORLD[:2]]
    metrics = record_of("federated", words, tmp_path)["metrics"]
    total = metrics["bytes_up"] + metrics["bytes_down"]
    assert metrics["bytes_per_client_max"] == total
    assert metrics["bytes_per_client_mean"] == round(total / 2)
    assert not {"simulated_seconds", "stragglers", "late_joiners"} & metrics.keys()
