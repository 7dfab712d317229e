"""Every client's memory learns each experience once, whether or not the client is asked to."""

from dataclasses import replace

import pytest
import torch
from flwr.app import RecordDict

from distill.augment import Augmentation
from distill.condenser import Condenser
from distill.coresets import KMeans, Random
from distill.training import Recipe
from fedcl.federated.base import MEMORY, MODEL, LocalTask, ServerTask, World
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.fedprox import FedProx
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.federated_continual.forgetful import Forgetful
from fedcl.federated_continual.local_replay import LocalReplay
from fedcl.federated_continual.shared_buffer import SharedBuffer
from fedcl.memory import Budget
from fedcl.stores.uint8 import Uint8
from fedcl.wire import pack_weights

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
BUDGET = Budget(6, None, "fixed", Uint8())


def replay(method: Condenser | None = None) -> LocalReplay:
    return LocalReplay(1, RECIPE, method or KMeans(), BUDGET)


@pytest.fixture
def stream(world) -> World:
    """Three experiences of a class each."""
    clients = [
        [own.rows((own.labels == label).nonzero().flatten()) for label in range(3)]
        for (own,) in world.clients
    ]
    return replace(world, clients=clients)


def asked(world: World, method, experience: int, state: RecordDict) -> dict:
    sent = {MODEL: pack_weights(world.first_network())}
    return dict(method.local_update(LocalTask(world, 0, 7, experience, sent, state)))


def kept(state: RecordDict) -> dict[str, torch.Tensor]:
    return state[MEMORY].to_torch_state_dict()


def test_who_is_not_asked_to_remember_does_so_before_it_trains_again(stream):
    told, never = RecordDict(), RecordDict()
    for experience in range(2):
        asked(stream, replay().remembering(), experience, told)
    first, second = (asked(stream, replay().learning(), 2, state) for state in (told, never))
    assert [name for name in kept(never) if name.startswith("kept/")] == ["kept/0", "kept/1"]
    assert all(kept(never)[name].equal(kept(told)[name]) for name in kept(told))
    weights = [records[MODEL].to_torch_state_dict() for records in (first, second)]
    assert all(weights[0][name].equal(weights[1][name]) for name in weights[0])


def test_an_experience_is_remembered_once_and_not_while_it_is_learnt(stream):
    state = RecordDict()
    asked(stream, replay().learning(), 0, state)
    assert MEMORY not in state
    for _ in range(2):
        asked(stream, replay().remembering(), 0, state)
    assert kept(state)["seen"].tolist() == [4, 0, 0]


def test_a_sketch_leaves_a_memory_of_the_same_size_and_all_of_its_work(stream):
    state, real = RecordDict(), RecordDict()
    sent = {MODEL: pack_weights(stream.first_network())}
    sketch = replay().learning().sketch(LocalTask(stream, 0, 1, 2, sent, state))
    asked(stream, replay().learning(), 2, real)
    assert [len(kept(state)[f"kept/{c}"]) for c in (0, 1)] == [2, 2]
    assert kept(state)["seen"].equal(kept(real)["seen"])
    names = [work.name for work in sketch.work]
    assert names == ["filling memories"] * 2 + ["local training"]


@pytest.mark.parametrize("participation", [0.34, 1.0])
def test_what_is_held_is_counted_and_not_what_could_be(stream, participation):
    # Two images a class; client 1 has lost its images of class 1 but for one.
    clients = [list(parts) for parts in stream.clients]
    clients[1][1] = clients[1][1].rows(torch.tensor([0]))
    scarce, method = replace(stream, clients=clients), replay(Random())
    methods = {"learn": method.learning(), "remember": method.remembering()}
    simulation = Simulation(methods, scarce, Rules(participation, 1.0))
    for number in range(6):
        action = "remember" if number % 2 else "learn"
        simulation.play(action, number + 1, number // 2)
    memories = method.held(simulation.task)
    assert sum(map(len, memories)) == 3 * 6 - 1
    assert sum(memory.peak for memory in memories) == sum(memory.bytes for memory in memories)


def test_the_server_s_images_are_those_that_it_holds(stream):
    method = SharedBuffer(1, RECIPE, Random(), BUDGET)
    task = ServerTask(stream, 0, 0, pack_weights(stream.first_network()), None)
    assert [len(memory) for memory in method.held(task)] == [0]
    simulation = Simulation({"remember": method.remembering()}, stream, Rules(1.0, 1.0))
    simulation.play("remember", 1, 0)
    assert [len(memory) for memory in method.held(simulation.task)] == [2]
    assert Forgetful(FedAvg(1, RECIPE)).held(task) == []


def test_what_keeps_nothing_learns_by_any_method_of_local_training():
    method = Forgetful(FedProx(3, replace(RECIPE, epochs=2), 0.1))
    assert method.learning() is method.federated
    assert method.passes == 6


def test_an_adaptive_budget_is_shared_among_the_classes_seen_so_far(stream):
    # Six images: all for the first class, three each for two, two each for three.
    world = replace(stream, clients=[stream.clients[0]])
    budget = replace(BUDGET, allocation="adaptive")
    remembering = SharedBuffer(1, RECIPE, Random(), budget).remembering()
    simulation = Simulation({"remember": remembering}, world, Rules(1.0, 1.0))
    for experience, counts in enumerate([[4, 0, 0], [3, 3, 0], [2, 2, 2]]):
        simulation.play("remember", experience + 1, experience)
        assert simulation.task.memory.data.counts.tolist() == counts
