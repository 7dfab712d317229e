"""The apps that Flower loads play any scenario with clients, composed from two strings."""

import json

import pytest
from flwr.app import Context, Error, RecordDict
from safetensors.torch import load_file

from experiments.backends.base import Composition
from experiments.backends.nodes import client, composed, server
from experiments.backends.results import Results
from experiments.errors import CommandError
from experiments.run import run
from fedcl.federated.strategy import RoundFailedError

WORDS = {
    "federated": (
        "federated=one_shot method=random ipc=2 clients=2 network=mlp evaluation.recipe.epochs=3"
    ),
    "federated_continual": (
        "federated_continual=local_replay method=random buffer.images=20 rounds=2 clients=2 "
        "network=mlp stream.experiences=2"
    ),
}
NODES = (2**62, 2**61)
# With the clock, and with random ids.
CHANGING = ("seconds", "bytes_up", "bytes_down", "bytes_per_client_mean", "bytes_per_client_max")


def numbers(value):
    """Returns metrics or history without what differs from place to place."""
    if isinstance(value, dict):
        return {k: numbers(v) for k, v in value.items() if k not in CHANGING}
    return [numbers(inner) for inner in value] if isinstance(value, list) else value


def same_tensors(mine, theirs) -> bool:
    return mine.keys() == theirs.keys() and all(mine[key].equal(theirs[key]) for key in mine)


def play(elsewhere, scenario: str, overrides: str, path, broken=None) -> Results:
    config = {"scenario": scenario, "overrides": overrides, "results": str(path)}
    path.mkdir()
    grid = elsewhere(client(), NODES, config)
    grid.broken = broken or {}
    server()(grid, Context(1, 1, {}, RecordDict(), config))
    results = Results(path)
    assert grid.pushed == len(results.clients())  # all of them worked there
    return results


@pytest.mark.parametrize("scenario", WORDS)
def test_apps_give_the_record_of_the_run_in_process(scenario, elsewhere, tmp_path):
    words = [*WORDS[scenario].split(), "threads=1"]
    results = play(elsewhere, scenario, " ".join(words), tmp_path / "results")
    folder = run(scenario, [*words, f"output={tmp_path}"], command="test")
    record = json.loads((folder / "record.json").read_text())
    outcome = results.outcome(num_classes=10)
    assert numbers(dict(outcome.metrics)) == numbers(record["metrics"])
    assert numbers(list(outcome.history)) == numbers(record["history"])
    rows = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    assert numbers(results.clients()) == numbers(rows)
    for name in ("synthetic", "real"):
        file = f"{name}.safetensors"
        mine, theirs = results.path / file, folder / file
        assert mine.exists() == theirs.exists()
        assert not mine.exists() or same_tensors(load_file(mine), load_file(theirs))


class LateErrors(dict):
    """Errors of all nodes once so many messages were pushed."""

    def __init__(self, grid, pushed: int):
        super().__init__()
        self.grid, self.pushed = grid, pushed

    def __contains__(self, node) -> bool:
        return self.grid.pushed > self.pushed

    def __getitem__(self, node) -> Error:
        return Error(2, "RuntimeError: out of coffee")


UP_ALONE = "compression.down=null"
SHORT = "rounds=3 clients=2 network=mlp threads=1"


@pytest.mark.parametrize(
    ("words", "resumes"),
    [
        ("federated=fedavg", True),
        ("federated=fedadam attack=label_flip", True),
        ("federated=feddm method.iterations=2 ipc=1", True),
        (f"federated=fedavg compression=topk compression.error_feedback=false {UP_ALONE}", True),
        (f"federated=fedavg compression=sign {UP_ALONE}", False),
        ("federated=fedavg compression=f16 compression.up=null", False),
        ("federated=scaffold", False),
        ("federated=moon attack=label_flip", False),
    ],
)
def test_a_run_goes_on_on_other_nodes_where_clients_keep_nothing(
    words, resumes, elsewhere, tmp_path
):
    def played(folder, nodes, fails):
        config = {"scenario": "federated", "overrides": f"{words} {SHORT}", "results": str(folder)}
        folder.mkdir(exist_ok=True)
        grid = elsewhere(client(), nodes, config)
        if fails:
            grid.broken = LateErrors(grid, 4)  # two rounds of two clients
            with pytest.raises(RoundFailedError):
                server()(grid, Context(1, 1, {}, RecordDict(), config))
        else:
            server()(grid, Context(1, 1, {}, RecordDict(), config))
        return grid.pushed, Results(folder)

    _, whole = played(tmp_path / "whole", NODES, False)
    played(tmp_path / "parts", NODES, True)
    pushed, parts = played(tmp_path / "parts", (2**60, 2**59), False)
    assert pushed == (2 if resumes else 6)
    for key in ("metrics", "history"):
        mine, theirs = (getattr(results.outcome(10), key) for results in (parts, whole))
        assert numbers(json.loads(json.dumps(mine))) == numbers(json.loads(json.dumps(theirs)))


def test_what_clients_see_comes_back(elsewhere, tmp_path):
    words = "federated=fedavg shift=rotation rounds=1 clients=2 network=mlp threads=1"
    seen = play(elsewhere, "federated", words, tmp_path / "results").outcome(10).seen
    assert list(seen) == [0, 1]
    assert seen[1].equal(seen[0].rot90(1, (2, 3)))


def test_a_run_that_fails_leaves_its_reason_in_a_line(elsewhere, tmp_path):
    broken = dict.fromkeys(NODES, Error(2, "RuntimeError: out of coffee"))
    with pytest.raises(RoundFailedError):
        play(elsewhere, "federated", WORDS["federated"], tmp_path / "results", broken)
    reason = Results(tmp_path / "results").reason()
    assert reason.startswith("RoundFailedError: min_completion must be reached, got 0 of 2")
    assert "clients 0, 1: RuntimeError: out of coffee" in reason


def test_a_reason_of_many_lines_becomes_one(elsewhere, tmp_path):
    with pytest.raises(CommandError):
        play(elsewhere, "federated", "federated='a\nb'", tmp_path / "results")
    reason = Results(tmp_path / "results").reason()
    assert reason.startswith("CommandError: ")
    assert "\n" not in reason


def test_a_composition_keeps_words_that_a_shell_would_split():
    words = ["federated=fedavg", "output=a folder", "dataset.mean=[0.3, 0.4]"]
    composition = Composition.of("federated", words)
    assert composition.words == words


def test_a_scenario_without_clients_is_refused():
    composition = Composition("distillation", "method=random ipc=1 network=mlp")
    with pytest.raises(TypeError, match="scenario must have clients, got distillation"):
        composed(composition)
