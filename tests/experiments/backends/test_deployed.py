"""Real Ray, and a real SuperLink with SuperNodes: the numbers in process, and clear failures."""

import json
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from experiments.backends.processes import HOME
from experiments.run import run

pytestmark = pytest.mark.slow

BACKENDS = {
    "ray": pytest.param(
        ["backend=ray", "backend.cpus=1"],
        marks=pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]"),
        id="ray",
    ),
    "superlink": pytest.param(["backend=superlink"], id="superlink"),
}
TOY = ["clients=2", "network=mlp", "threads=1", "partition.alpha=1.0"]
METHODS = {
    "fedavg": ("federated", ["federated=fedavg", "rounds=2"]),
    "one_shot": (
        "federated",
        ["federated=one_shot", "method=random", "ipc=2", "evaluation.recipe.epochs=3"],
    ),
    # Its clients keep a memory between rounds, so each must meet its own node again.
    "local_replay": (
        "federated_continual",
        [
            *("federated_continual=local_replay", "method=random", "buffer.images=20"),
            *("rounds=1", "stream.experiences=2"),
        ],
    ),
}
# So long that its client works until it is killed.
ENDLESS = ["federated=fedavg", "rounds=2", "clients=1", "training.epochs=1000000", *TOY[1:]]
IMPORTED = 10.0  # seconds of a processor after which a client has its message and is at work


def of_run(output: Path) -> list[psutil.Process]:
    """Returns the living processes of Flower whose private home is in this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(HOME, "").startswith(str(output))
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def output(tmp_path):
    """A folder for runs; no process of theirs may be left, and none is when the test has ended."""
    yield tmp_path
    left = of_run(tmp_path)
    names = [process.name() for process in left]
    for process in left:
        process.kill()
    assert not names


def numbers(folder: Path) -> dict[str, list]:
    record = json.loads((folder / "record.json").read_text())
    rows = [json.loads(line) for line in (folder / "clients.jsonl").read_text().splitlines()]
    return {
        "accuracy": [(row["accuracy"], row["loss"]) for row in record["history"]],
        "payload": [row["payload_bytes"] for row in rows],
        "clients": [(row["round"], row["client"], row["failure"]) for row in rows],
        "bytes": [row["bytes_up"] + row["bytes_down"] for row in rows],
    }


@pytest.mark.parametrize("backend", BACKENDS.values())
@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_accuracy(backend, method, output):
    scenario, words = METHODS[method]
    words = [*words, *TOY, f"output={output}"]
    local = numbers(run(scenario, words, command="test"))
    folder = run(scenario, [*words, *backend], command="test")
    there = numbers(folder)
    for key in ("accuracy", "payload", "clients"):
        assert there[key] == local[key]
    gaps = [abs(a - b) for a, b in zip(there["bytes"], local["bytes"], strict=True)]
    assert max(gaps) < 200  # ids, of both messages
    assert not (folder / "flower").exists()


@pytest.mark.parametrize("backend", BACKENDS.values())
def test_a_killed_run_goes_on(backend, output):
    words = ["federated=fedavg", "rounds=4", "training.epochs=20", *TOY, f"output={output}"]
    command = [sys.executable, "-m", "experiments", "federated", *words, *backend]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        end = time.perf_counter() + 300
        while not (saved := list(output.rglob("results/checkpoint/state.pt"))):
            assert process.poll() is None
            assert time.perf_counter() < end
            time.sleep(0.1)
        process.kill()
    first = json.loads((saved[0].parents[1] / "clients.jsonl").read_text().splitlines()[0])
    folder = run("federated", [*words, *backend], command="test")
    again = json.loads((folder / "clients.jsonl").read_text().splitlines()[0])
    assert again == first  # its clock, too
    local = numbers(run("federated", words, command="test"))
    assert numbers(folder)["accuracy"] == local["accuracy"]


def killed(words: list[str], output: Path, name: str) -> tuple[int, str]:
    """Runs a command, kills its first process of that name at work; returns status and words."""
    command = [sys.executable, "-m", "experiments", "federated", *words, f"output={output}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            end, victim = time.perf_counter() + 300, None
            while victim is None:
                assert process.poll() is None
                assert time.perf_counter() < end
                time.sleep(0.2)
                victim = next((p for p in of_run(output) if at_work(p, name)), None)
            victim.kill()
            _, said = process.communicate(timeout=300)
        finally:
            process.terminate()
    return process.returncode, said.splitlines()[-1]


def at_work(process: psutil.Process, name: str) -> bool:
    try:
        used = process.cpu_times()
        return name in " ".join(process.cmdline()) and used.user + used.system > IMPORTED
    except psutil.Error:
        return False


@pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra [ray]")
def test_a_worker_of_ray_that_is_killed_ends_the_run_with_its_reason(output):
    status, said = killed([*ENDLESS, "backend=ray"], output, "ray::ClientAppActor")
    assert status == 1
    assert "Ray's workers must live as long as the run, got one that died in a round" in said


def test_a_client_on_a_supernode_that_is_killed_is_a_failure_with_its_reason(output):
    status, said = killed([*ENDLESS, "backend=superlink"], output, "flwr-clientapp")
    assert status == 1
    assert "got 0 of 1 clients in round 1: client 0: ClientApp stopped responding" in said
    (record,) = output.rglob("record.json")
    row = json.loads((record.parent / "clients.jsonl").read_text())
    assert row["failure"].startswith("ClientApp stopped responding")
