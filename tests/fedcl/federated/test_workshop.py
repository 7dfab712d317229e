"""Clients in one process distil together; messages, failures and resuming are as if alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from torch import Tensor

from benchmarks.alternate import taken
from distill.around_given import AroundGiven
from distill.augment import Augmentation
from distill.condenser import condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.labels import HardLabels
from distill.network_sources import Fresh, NetworkSource
from distill.networks import MLP, Network
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching, Separable, Statistic
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.real import ClassBatch
from distill.training import Recipe
from fedcl.attacks.backdoor import Backdoor
from fedcl.attacks.poisoning import Poisoning
from fedcl.attacks.trigger import Trigger
from fedcl.compression.half import Half
from fedcl.federated import grid, workshop
from fedcl.federated.app import client_app, local_task
from fedcl.federated.base import FederatedMethod, World
from fedcl.federated.channel import Channel
from fedcl.federated.feddm import FedDM
from fedcl.federated.grid import LocalGrid
from fedcl.federated.one_shot import OneShot
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.federated.workshop import Workshop
from fedcl.trust import Trust

NET = MLP(4, 1)
FRESH, AROUND = Fresh(NET, 1), AroundGiven(NET, None, 1.0, 1)
RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)


@final
@dataclass(frozen=True)
class Seen(Separable):
    """Distribution matching that notes of which classes each pass through a network is."""

    passes: list[list[int]] = field(default_factory=list)

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        self.passes.append(real.labels.tolist())
        return DistributionMatching().losses(network, real, synthetic)


def dm(networks: NetworkSource, statistic: Statistic = DistributionMatching()) -> Distillation:  # noqa: B008
    objective = Matching(statistic, networks, DSA, 2, None)
    pixels = Parameterisation(Pixels(clip=False))
    return Distillation(objective, pixels, HardLabels(), Random(), SGD(1.0, 0.5), 3)


def simulated(method: FederatedMethod, world: World, together: bool = True) -> Simulation:
    app = client_app({"update": method}, world, Channel())
    alone = None if together else LocalGrid(app, len(world.clients))
    return Simulation({"update": method}, world, Rules(1.0, 0.5), Channel(), alone)


@pytest.mark.parametrize("rounds", [1, 2])
def test_messages_and_sets_are_those_of_clients_that_work_alone(world, rounds):
    seen = Seen()
    around = FedDM(2, dm(AROUND, seen), 2, RECIPE, 1.0)
    method = OneShot(dm(FRESH, seen), 2, RECIPE) if rounds == 1 else around
    ours, alone = simulated(method, world), simulated(method, world, together=False)
    for number in range(1, rounds + 1):
        seen.passes.clear()
        found = ours.play("update", number).clients
        assert [len(classes) for classes in seen.passes] == [9, 9, 9]  # of three clients, each step
        wanted = alone.play("update", number).clients
        assert len(seen.passes) == 3 + 3 * 3
        for mine, theirs in zip(found, wanted, strict=True):
            assert {**mine, "seconds": 0} == {**theirs, "seconds": 0}
            assert mine["bytes_up"] > mine["payload_bytes"] > 0 < mine["seconds"]
    torch.testing.assert_close(ours.task.memory.data.images, alone.task.memory.data.images)


@pytest.mark.parametrize(
    "attack", [Backdoor(1, Trigger(2, 1), 2), Poisoning(1, Trigger(2, 1), 0.5)]
)
def test_honest_clients_beside_an_attacker_distil_together(world, attack):
    seen = Seen()
    method = Trust(attack, None).around(OneShot(dm(FRESH, seen), 2, RECIPE), world.clients[0][0])
    ours, alone = simulated(method, world), simulated(method, world, together=False)
    ours.play("update", 1)
    own = [[3] * 3, []][isinstance(attack, Backdoor)]  # a poisoner's set is of other images
    assert [len(classes) for classes in seen.passes] == [9, 9, 9, *own]
    alone.play("update", 1)
    torch.testing.assert_close(ours.task.memory.data.images, alone.task.memory.data.images)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_resumed_run_ends_as_an_unbroken_one(world, cut):
    method = FedDM(3, dm(AROUND), 1, RECIPE, None)
    whole, first, second = (simulated(method, world) for _ in range(3))
    for number in range(1, 4):
        whole.play("update", number)
        if number == cut:
            second.restore(first.state())
        (first if number < cut else second).play("update", number)
    ends = (s.task.weights.to_torch_state_dict() for s in (whole, second))
    assert all(ours.equal(theirs) for ours, theirs in zip(*(e.values() for e in ends), strict=True))


@pytest.mark.parametrize("broken", ["no image", "no number"])
def test_a_client_that_fails_fails_alone(world, broken):
    data = world.clients[1][0]
    nothing = LabelledImages(data.images[:0], data.labels[:0], 3)
    bad = nothing if broken == "no image" else replace(data, images=data.images * torch.nan)
    unlucky = replace(world, clients=[world.clients[0], [bad], world.clients[2]])
    ours = simulated(OneShot(dm(FRESH), 1, RECIPE), unlucky)
    failures = [row["failure"] for row in ours.play("update", 1).clients]
    reason = {"no image": "sum >= 1", "no number": "the loss must stay finite"}[broken]
    assert reason in failures[1]
    assert (failures[0], failures[2]) == (None, None)
    assert ours.task.memory.data.counts.tolist() == [2, 2, 2]


def test_too_little_memory_for_all_at_once_lets_clients_work_alone(world, monkeypatch, caplog):
    def condense_together(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(workshop, "condense_together", condense_together)
    seen = Seen()
    simulated(OneShot(dm(FRESH, seen), 2, RECIPE), world).play("update", 1)
    assert [len(classes) for classes in seen.passes] == [3] * 9
    assert "clients distil one after the other: out of memory" in caplog.text


def test_what_compressed_messages_say_is_left_to_their_clients(world):
    seen, channel = Seen(), Channel(down=Half())
    method = FedDM(1, dm(AROUND, seen), 1, RECIPE, None)
    Simulation({"update": method}, world, Rules(1.0, 1.0), channel).play("update", 1)
    assert [len(classes) for classes in seen.passes] == [3] * 9


def asked(world: World) -> list[Message]:
    strategy = simulated(OneShot(dm(FRESH), 1, RECIPE), world).strategies["update"]
    nodes = LocalGrid(client_app({}, world, Channel()), len(world.clients))
    return list(strategy.configure_train(1, strategy.task.weights, ConfigRecord(), nodes))


def test_a_set_is_handed_out_once_and_for_the_task_it_was_made_of(world):
    seen = Seen()
    method = OneShot(dm(FRESH, seen), 1, RECIPE)
    workshop = Workshop({"update": method}, world, Channel())
    tasks = [local_task(message, world, {}) for message in asked(world)]
    first, second, third = (method.wanted(task) for task in tasks)
    workshop.prepare(asked(world))
    assert len(seen.passes) == 3
    small = workshop.condense(method.method, first)
    assert len(seen.passes) == 3
    torch.testing.assert_close(small.data.images, condense(method.method, first).data.images)
    workshop.condense(method.method, first)
    other = replace(second, real=second.real.rows(torch.arange(6)))
    assert len(seen.passes) == 9
    workshop.condense(method.method, other)
    assert len(seen.passes) == 12
    found = workshop.condense(Random(), third)
    assert found.data.images.equal(condense(Random(), third).data.images)


def test_sets_that_nobody_asked_for_are_forgotten(world):
    seen = Seen()
    method = OneShot(dm(FRESH, seen), 1, RECIPE)
    workshop = Workshop({"update": method}, world, Channel())
    workshop.prepare(asked(world))
    workshop.prepare([])
    workshop.condense(method.method, method.wanted(local_task(asked(world)[0], world, {})))
    assert len(seen.passes) == 3 + 3


def test_a_grid_tells_of_messages_before_it_delivers_them(world, monkeypatch):
    monkeypatch.setattr(grid, "NEAR", 2)
    events, shares = list[str](), list[float]()

    def work(message: Message, context: Context) -> Message:
        events.append(f"client {context.node_id}")
        return Message(RecordDict(), reply_to=message)

    app = ClientApp()
    app.train("update")(work)

    def prepare(near: Sequence[Message]) -> None:
        events.append(f"{len(near)} near")
        shares.extend([taken(lambda: sum(range(10**6)))[0] / len(near)] * len(near))

    local = LocalGrid(app, 3, prepare)
    replies = list(local.send_and_receive(asked(world)))
    assert events == ["2 near", "client 100", "client 101", "1 near", "client 102"]
    assert [reply.metadata.src_node_id for reply in replies] == [100, 101, 102]
    # what is done for all takes some 10 ms of each client, and delivering a message 1
    for exchange, share in zip(local.exchanges, shares, strict=True):
        assert exchange.seconds >= share
