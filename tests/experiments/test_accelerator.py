"""On an accelerator every run gives what it gives on the CPU, killed and resumed there, too.

The accelerator is a pretended one (tests/support/pretend.py): it refuses to mix with the CPU, and
computes as the CPU does, so that numbers must be equal to the last bit.
"""

import json

import pretend
import pytest
import torch
from toys import SMALL_WORLD, SYSTEMS, has_memory, small_distilling, small_federation

from distill.images import LabelledImages
from distill.rng import global_stream
from experiments.avalanche import method
from experiments.build import Plan, plan
from experiments.listing import known
from experiments.record import RunFolder

SHORT = ["threads=1", "evaluation.recipe.epochs=1", "evaluation.networks=1"]
STREAM = "network=mlp dataset.train_images=60 stream.experiences=2 threads=1 training.epochs=1"
MEMORY = ["method=dm", "method.iterations=2", "buffer.images=20"]
DECODED = ["method=dm", "parameterisation=tiles", "method.iterations=1", "buffer.images=40"]


@pytest.fixture(autouse=True)
def _pretend(monkeypatch):
    for name in ("tensor", "as_tensor"):
        monkeypatch.setattr(torch, name, pretend.on_either(getattr(torch, name)))


def without_seconds(value):
    if isinstance(value, dict):
        return {k: without_seconds(v) for k, v in value.items() if "seconds" not in k}
    return [without_seconds(v) for v in value] if isinstance(value, list | tuple) else value


def found(planned: Plan, device: str, folder, begun_on: str | None = None) -> str:
    """What a run reports; where it began elsewhere, or anew, it was killed after its first step."""
    made = RunFolder(folder / f"{begun_on}-{device}")
    made.begin(planned.config)
    if begun_on is not None:
        steps = planned.scenario.prepare(begun_on).steps(made)
        next(steps)
        steps.close()
    steps = planned.scenario.prepare(device).steps(made)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            outcome = end.value
            break
    made.write_images(outcome.synthetic, outcome.real)
    made.write_memories(outcome.memories)
    return json.dumps(without_seconds([dict(outcome.metrics), list(outcome.history)]))


def check(kind: str, words: list[str], folder) -> None:
    planned = plan(kind, words)
    there = found(planned, pretend.NAME, folder, begun_on=pretend.NAME)
    assert there == found(planned, "cpu", folder)


@pytest.mark.parametrize("method", known("method"))
def test_every_method_distils_there(method, tmp_path):
    check("distillation", [*small_distilling([f"method={method}"]), *SHORT], tmp_path)


@pytest.mark.parametrize("method", known("federated"))
def test_every_federated_method_runs_there(method, tmp_path):
    check("federated", small_federation(method), tmp_path)


FEDERATED = {
    "int8": "federated=scaffold rounds=2 compression=int8",
    "sign": "federated=fedavg rounds=2 compression=sign",
    "jpeg": "federated=one_shot method=kmeans ipc=2 compression=jpeg",
    "decoded": "federated=one_shot method=dm parameterisation=tiles method.iterations=1 ipc=2",
    "low rank": "federated=feddm rounds=1 parameterisation=low_rank method.iterations=1 ipc=2",
    "answers": "federated=one_shot method=rded method.recipe.epochs=1 ipc=2",
    "noise": "federated=fedavg rounds=1 shift=noise shift.sigma=0.3 personalise=local",
    "rotation": "federated=fedavg rounds=1 shift=rotation",
    **{
        attack: f"federated=one_shot method=kmeans ipc=2 attack={attack}"
        for attack in known("attack")
        if attack != "label_flip"
    },
    "label_flip": "federated=one_shot method=kmeans ipc=2 attack=label_flip attack.clients=3",
    **{
        defence: "federated=one_shot method=kmeans ipc=2 clients=6 attack=backdoor "
        f"dataset.validation=0.2 defence={defence}"
        for defence in known("defence")
        if defence != "none"
    },
}


@pytest.mark.parametrize("name", FEDERATED)
def test_what_surrounds_a_method_runs_there(name, tmp_path):
    words = [*SMALL_WORLD, *FEDERATED[name].split()]
    recipe = ["evaluation.recipe.epochs=2", "evaluation.recipe.decay_after=1"]
    check("federated", words + (recipe if "method=" in FEDERATED[name] else []), tmp_path)


@pytest.mark.parametrize("strategy", known("continual"))
def test_every_strategy_learns_there(strategy, tmp_path):
    memory = SYSTEMS[strategy][0] if strategy in SYSTEMS else MEMORY
    words = [*STREAM.split(), f"continual={strategy}", *(memory if has_memory(strategy) else [])]
    check("continual", words, tmp_path)


CONTINUAL = {
    **{s: f"stream={s}" for s in known("stream") if s not in ("sequence", "online")},
    **{
        store: f"storage={store} buffer.images=null buffer.bytes=4000" for store in known("storage")
    },
    "online": "stream=online buffer.staged=10",
}


@pytest.mark.parametrize("name", CONTINUAL)
def test_every_stream_and_store_runs_there(name, tmp_path):
    words = [*STREAM.split(), "continual=replay", *MEMORY, *CONTINUAL[name].split()]
    check("continual", words, tmp_path)


@pytest.mark.parametrize("strategy", ["replay", "gdumb"])
def test_a_memory_of_decoded_sets_is_filled_there(strategy, tmp_path):
    check("continual", [*STREAM.split(), f"continual={strategy}", *DECODED], tmp_path)


@pytest.mark.parametrize("method", known("federated_continual"))
def test_clients_learn_a_stream_there(method, tmp_path):
    words = [*SMALL_WORLD, f"federated_continual={method}", "rounds=1", "stream.experiences=2"]
    check("federated_continual", words + ([] if method == "fedavg" else MEMORY), tmp_path)


MOVING = {
    "distillation": [*small_distilling(["method=dsa"]), *SHORT],
    "federated": small_federation("scaffold"),
    "continual": [*STREAM.split(), "continual=der", *MEMORY],
    "federated_continual": [
        *(*SMALL_WORLD, "federated_continual=shared_buffer"),
        *("rounds=1", "stream.experiences=2", *MEMORY),
    ],
}


@pytest.mark.parametrize("kind", MOVING)
def test_a_run_goes_on_on_another_device_than_it_began_on(kind, tmp_path):
    planned = plan(kind, MOVING[kind])
    here = found(planned, "cpu", tmp_path)
    assert found(planned, pretend.NAME, tmp_path, begun_on="cpu") == here
    assert found(planned, "cpu", tmp_path, begun_on=pretend.NAME) == here


def scripted(device: str) -> list[list[float]]:
    """What a script of Avalanche's leaves on a device: weights, and the memory's images."""
    from avalanche.benchmarks import nc_benchmark
    from avalanche.models import SimpleMLP
    from avalanche.training import Naive
    from avalanche.training.plugins import EvaluationPlugin

    from fedcl.continual.avalanche import CondensedBuffer, ConstantRatioReplay, Tensors

    images = torch.rand(48, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = Tensors(LabelledImages(images, torch.arange(6).repeat(8), 6))
    benchmark = nc_benchmark(data, data, n_experiences=3, task_labels=False, seed=0)
    policy = CondensedBuffer.of(benchmark, method("dm", "method.iterations=2"), images=6)
    with global_stream(0):
        model = SimpleMLP(num_classes=6, input_size=64, hidden_size=8, drop_rate=0.0)
        strategy = Naive(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), 0.1),
            train_mb_size=4,
            plugins=[ConstantRatioReplay(policy, seed=0)],
            evaluator=EvaluationPlugin(loggers=[]),
            device=torch.device(device),
        )
        for experience in benchmark.train_stream:
            strategy.train(experience)
    left = [*model.parameters(), policy.memory.data().images]
    return [tensor.detach().cpu().flatten().tolist() for tensor in left]


@pytest.mark.filterwarnings("ignore:No loggers specified")
def test_a_script_of_avalanches_replays_there():
    assert scripted(pretend.NAME) == scripted("cpu")


def test_what_was_left_behind_is_an_error_there():
    away = torch.ones(3).to(pretend.NAME)
    assert (away + 1).tolist() == [2, 2, 2]
    with pytest.raises(RuntimeError, match="same device"):
        away + torch.ones(3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=pretend.NAME, generator=torch.Generator())
