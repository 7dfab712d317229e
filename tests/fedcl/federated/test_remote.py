"""Clients that work elsewhere give the numbers of the in-process ones, and failures have names."""

from dataclasses import dataclass

import pytest
from flwr.app import ConfigRecord, Error
from flwr.supercore.task_identity import TaskIdentity

from distill.augment import Augmentation
from distill.training import Recipe
from fedcl.federated.app import client_app
from fedcl.federated.base import FederatedMethod
from fedcl.federated.channel import Channel
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.remote import RemoteGrid, WorkersLostError
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import RoundFailedError, Rules

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
NODES = [2**63 + 5, 2**62 + 1, 2**63 + 9]  # not ascending: Flower's ids are random
ASCENDING = sorted(NODES)
RAY_TRACE = (
    "<class 'flwr.clientapp.client_app.ClientAppException'>:<'\x1b[36mray::ClientAppActor.run()"
    '\x1b[39m (pid=1)\n  File "app.py", line 1, in run\nRuntimeError: out of coffee\'>'
)


@dataclass(frozen=True)
class Counting(FederatedMethod):
    """Each client counts its rounds in its state, and refuses a count that isn't its own."""

    vectors = ()
    rounds: int = 3

    def broadcast(self, server):
        return {}

    def local_update(self, task):
        kept = task.state.get("kept", ConfigRecord({"client": task.client, "rounds": 0}))
        assert kept["client"] == task.client
        assert kept["rounds"] == task.round - 1
        task.state["kept"] = ConfigRecord({"client": task.client, "rounds": task.round})
        return {}

    def check(self, upload, server):
        upload.check_names()

    def aggregate(self, server, uploads):
        return server


def test_a_simulation_elsewhere_leaves_flowers_run_as_it_is(world):
    class Nowhere:
        """A grid that is never used."""

    TaskIdentity.run_id = 77
    Simulation({"update": Counting()}, world, Rules(1.0, 1.0), grid=Nowhere())
    assert TaskIdentity.run_id == 77


@pytest.fixture
def start(world, elsewhere):
    """Starts a simulation of a method on nodes elsewhere; returns it and their grid."""

    def started(method=None, nodes=NODES, patience=5.0, min_completion=1.0):
        methods = {"update": method or FedAvg(2, RECIPE)}
        inner = elsewhere(client_app(methods, world, Channel()), nodes)
        grid = RemoteGrid(inner, len(world.clients), patience)
        return Simulation(methods, world, Rules(1.0, min_completion), grid=grid), inner

    return started


def test_nodes_that_come_late_give_the_weights_of_the_clients_in_process(world, start):
    remote, _ = start()
    local = Simulation({"update": FedAvg(2, RECIPE)}, world, Rules(1.0, 1.0))
    for number in (1, 2):
        remote.play("update", number)
        local.play("update", number)
    mine, theirs = remote.task.weights, local.task.weights
    assert all((mine[key].numpy() == theirs[key].numpy()).all() for key in theirs)


def test_bytes_are_those_in_process_but_for_metadata(world, start):
    remote, _ = start()
    there = remote.play("update", 1)
    here = Simulation({"update": FedAvg(2, RECIPE)}, world, Rules(1.0, 1.0)).play("update", 1)
    for theirs, ours in zip(there.clients, here.clients, strict=True):
        assert theirs["client"] == ours["client"]
        assert theirs["payload_bytes"] == ours["payload_bytes"] > 0
        for direction in ("bytes_up", "bytes_down"):
            assert abs(theirs[direction] - ours[direction]) < 100


def test_a_client_meets_the_same_node_though_another_one_joins(start):
    simulation, inner = start(Counting())
    simulation.play("update", 1)
    inner.nodes.insert(0, 7)  # smaller than the others: it would be the first client's
    simulation.play("update", 2)
    assert [e.node for e in simulation.grid.exchanges] == ASCENDING * 2


@pytest.mark.parametrize("nodes", [NODES[:2], [*NODES, 7]])
def test_other_than_one_node_a_client_is_refused(start, nodes):
    simulation, _ = start(nodes=nodes, patience=0.3)
    with pytest.raises(WorkersLostError, match=f"as many as clients, 3, got {len(nodes)}; "):
        simulation.play("update", 1)


def test_what_flower_says_for_a_lost_node_is_a_failure_of_its_client(start):
    simulation, inner = start(min_completion=0.5)
    inner.broken[ASCENDING[1]] = Error(5, "Node Unavailable")
    report = simulation.play("update", 1)
    failures = [row["failure"] for row in report.clients]
    assert failures == [None, "Node Unavailable", None]


def test_a_message_that_flower_takes_not_is_a_failure_of_its_client(start):
    simulation, inner = start(min_completion=0.5)
    inner.lost.add(ASCENDING[0])
    report = simulation.play("update", 1)
    assert [row["failure"] for row in report.clients] == ["no reply", None, None]


def test_a_trace_of_ray_is_cut_to_what_the_client_raised(start):
    simulation, inner = start()
    inner.broken[ASCENDING[0]] = Error(2, RAY_TRACE)
    with pytest.raises(RoundFailedError, match=r"client 0: RuntimeError: out of coffee$"):
        simulation.play("update", 1)


def test_a_dead_worker_of_ray_ends_the_run_whatever_min_completion_says(start):
    simulation, inner = start(min_completion=0.0)
    reason = "<class 'ray.exceptions.ActorDiedError'>:<'The actor died unexpectedly.'>"
    inner.broken[ASCENDING[2]] = Error(0, reason)
    with pytest.raises(WorkersLostError, match="must live as long as the run, got one that died"):
        simulation.play("update", 1)


def test_a_reply_that_is_given_up_counts_what_was_sent(start):
    simulation, inner = start()
    inner.silent.add(ASCENDING[1])
    grid, strategy = simulation.grid, simulation.strategies["update"]
    messages = strategy.configure_train(1, simulation.task.weights, ConfigRecord(), grid)
    replies = list(grid.send_and_receive(messages, timeout=0.5))
    assert [reply.metadata.src_node_id for reply in replies] == [ASCENDING[0], ASCENDING[2]]
    assert [e.bytes_up > 0 for e in grid.exchanges] == [True, False, True]
    assert all(e.bytes_down > 0 for e in grid.exchanges)


def test_states_of_clients_can_not_be_put_back(start):
    simulation, _ = start()
    with pytest.raises(TypeError, match="states must stay on their nodes, got 1"):
        simulation.grid.restore({1: ("", {})})
