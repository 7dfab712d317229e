"""Who joins late and who drops out is decided by the seed, and leaves nothing else changed."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch
from flwr.app import ConfigRecord

from fedcl.federated.app import client_app
from fedcl.federated.availability import ALWAYS, Availability
from fedcl.federated.base import FederatedMethod
from fedcl.federated.channel import Channel
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import RoundFailedError, Rules

NODES = [2**63 + 5, 2**62 + 1, 2**63 + 9]
HALF = Availability(dropout=0.5, late=0.0, joins=1)
LATE = Availability(dropout=0.0, late=0.34, joins=3)
ANY = 0.0  # of min_completion: one client is enough
# Seed 0 leaves somebody in each of these rounds, and loses somebody in one of them at least.
ROUNDS = range(1, 5)


@dataclass(frozen=True)
class Counting(FederatedMethod):
    """Each client counts the rounds that it worked in, in its state; `worked` sees them."""

    worked: dict
    vectors = ()
    rounds: int = 4

    def broadcast(self, server):
        return {}

    def local_update(self, task):
        kept = task.state.get("kept", ConfigRecord({"rounds": 0}))
        task.state["kept"] = ConfigRecord({"rounds": kept["rounds"] + 1})
        self.worked[task.client] = kept["rounds"] + 1
        return {}

    def check(self, upload, server):
        upload.check_names()

    def aggregate(self, server, uploads):
        return server


def rows_of(simulation, rounds=ROUNDS):
    return [row for number in rounds for row in simulation.play("update", number).clients]


def test_probability_is_the_share_of_drops_over_rounds_and_clients():
    drops = [HALF.drops(client, number, 0) for client in range(40) for number in range(1, 51)]
    # 2000 draws at one half: a standard deviation of sqrt(500) = 22 around 1000.
    assert abs(sum(drops) - 1000) < 4 * 22
    some = replace(HALF, dropout=0.1)
    drops = [some.drops(client, number, 0) for client in range(40) for number in range(1, 51)]
    # sqrt(2000 * 0.1 * 0.9) = 13 around 200.
    assert abs(sum(drops) - 200) < 4 * 13


def test_drops_differ_between_clients_rounds_and_seeds():
    assert len({HALF.drops(client, 1, 0) for client in range(20)}) == 2
    assert len({HALF.drops(1, number, 0) for number in range(20)}) == 2
    assert len({HALF.drops(1, 1, seed) for seed in range(20)}) == 2


def test_nobody_drops_out_or_joins_late_by_default():
    assert not any(ALWAYS.drops(client, 1, 0) for client in range(100))
    assert ALWAYS.joined(5, 1, 0) == [0, 1, 2, 3, 4]
    assert ALWAYS.late_joiners(5, 0) == []


def test_late_joiners_are_a_share_to_the_nearest_client_and_come_in_their_round():
    late = LATE.late_joiners(10, 0)
    assert len(late) == 3  # of 3.4
    for number, expected in [(1, set(late)), (2, set(late)), (3, set()), (4, set())]:
        assert set(range(10)) - set(LATE.joined(10, number, 0)) == expected
    assert len({tuple(LATE.late_joiners(10, seed)) for seed in range(9)}) > 1
    assert replace(LATE, joins=1).late_joiners(10, 0) == []


def test_more_late_joiners_are_the_fewer_and_some_more():
    shares = [replace(LATE, late=share / 10).late_joiners(10, 0) for share in range(10)]
    assert [len(late) for late in shares] == list(range(10))
    assert all(set(fewer) < set(more) for fewer, more in pairwise(shares))


def test_a_dropped_client_is_a_failure_with_bytes_down_alone(world):
    rows = rows_of(Simulation({"update": Counting({})}, world, Rules(1.0, ANY, HALF)))
    assert [row["client"] for row in rows] == [0, 1, 2] * 4
    dropped = [row for row in rows if HALF.drops(row["client"], row["round"], world.seed)]
    assert 0 < len(dropped) < len(rows)
    for row in rows:
        assert row["failure"] == ("dropped out" if row in dropped else None)
        assert (row["bytes_up"] > 0) == (row not in dropped)
    assert len({row["bytes_down"] for row in rows}) == 1


def test_a_round_counts_its_drops_and_bytes(world):
    simulation = Simulation({"update": Counting({})}, world, Rules(1.0, ANY, HALF))
    for number in ROUNDS:
        report = simulation.play("update", number)
        assert report.totals["failures"] == sum(bool(row["failure"]) for row in report.clients)
        assert report.totals["bytes_down"] == 3 * report.clients[0]["bytes_down"]


def test_a_dropped_client_does_not_work_and_keeps_its_state(world):
    worked = {}
    rows = rows_of(Simulation({"update": Counting(worked)}, world, Rules(1.0, ANY, HALF)))
    for client, rounds in worked.items():
        assert rounds == sum(r["client"] == client and r["failure"] is None for r in rows)


def test_dropouts_are_the_same_on_nodes_elsewhere(world, elsewhere, plain):
    methods, rules = {"update": FedAvg(4, plain())}, Rules(1.0, ANY, HALF)
    inner = elsewhere(client_app(methods, world, Channel()), NODES)
    remote = Simulation(methods, world, rules, grid=RemoteGrid(inner, 3, 5.0))
    local = Simulation(methods, world, rules)
    theirs, ours = rows_of(remote), rows_of(local)
    for row, other in zip(theirs, ours, strict=True):
        for key in ("round", "client", "failure", "payload_bytes"):
            assert row[key] == other[key]
        assert abs(row["bytes_down"] - other["bytes_down"]) < 100
    assert inner.pushed == sum(row["failure"] is None for row in ours)
    mine, other = remote.task.weights, local.task.weights
    assert all((mine[key].numpy() == other[key].numpy()).all() for key in other)


def test_a_round_that_all_drop_out_of_fails_with_the_reason(world):
    rules = Rules(1.0, ANY, replace(HALF, dropout=1 - 1e-9))
    with pytest.raises(
        RoundFailedError, match=r"got 0 of 3 clients in round 1: clients 0, 1, 2: dropped out"
    ):
        Simulation({"update": Counting({})}, world, rules).play("update", 1)


def test_late_joiners_are_not_asked_before_their_round(world):
    rows = rows_of(Simulation({"update": Counting({})}, world, Rules(1.0, 1.0, LATE)))
    (late,) = LATE.late_joiners(3, world.seed)
    early = [client for client in range(3) if client != late]
    asked = {n: [row["client"] for row in rows if row["round"] == n] for n in ROUNDS}
    assert asked == {1: early, 2: early, 3: [0, 1, 2], 4: [0, 1, 2]}


def test_participation_is_of_those_that_are_there(world):
    # Half of two clients is one; half of three were two.
    rules = Rules(0.5, 1.0, replace(LATE, joins=9))
    rows = rows_of(Simulation({"update": Counting({})}, world, rules))
    assert {row["client"] for row in rows} == set(LATE.joined(3, 1, world.seed))
    assert [row["round"] for row in rows] == list(ROUNDS)


def test_dropouts_do_not_alter_who_is_asked(world):
    simulations = [
        Simulation({"update": Counting({})}, world, Rules(0.67, ANY, availability))
        for availability in (ALWAYS, replace(HALF, dropout=0.2))
    ]
    first, second = ([r["client"] for r in rows_of(simulation)] for simulation in simulations)
    assert first == second


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dropout": 1.0}, r"availability.dropout must be in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"availability.dropout must be in \[0, 1\), got -0.1"),
        ({"late": 1.2}, r"availability.late must be in \[0, 1\], got 1.2"),
        ({"joins": 0}, "availability.joins must be >= 1, got 0"),
    ],
)
def test_values_outside_their_range_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(LATE, **change)


def test_a_federation_of_late_clients_alone_is_refused():
    with pytest.raises(ValueError, match=r"got 0.9 of 3 clients; lower it, or take availability"):
        replace(LATE, late=0.9).check(3)
    replace(LATE, late=0.9, joins=1).check(3)
    LATE.check(3)


def test_a_round_tells_which_part_of_its_images_is_done(world):
    simulation = Simulation({"update": Counting({})}, world, Rules(1.0, ANY, HALF))
    sizes = [len(parts[0]) for parts in world.clients]
    assert len(set(sizes)) > 1
    for number in ROUNDS:
        told = list[float]()
        rows = simulation.play("update", number, told=told.append).clients
        answered = [row["client"] for row in rows if row["failure"] is None]
        parts = [sizes[client] / sum(sizes) for client in answered]
        assert len(told) == len(answered)
        assert told[-1] == pytest.approx(1.0)
        assert [b - a for a, b in pairwise(told)] == pytest.approx(parts[1:])


def test_a_round_of_clients_without_images_fails_as_one(world):
    nothing = world.clients[0][0].rows(torch.zeros(0).long())
    empty = replace(world, clients=[[nothing]])
    told = list[float]()
    with pytest.raises(RoundFailedError, match="min_completion must be reached"):
        Simulation({"update": Counting({})}, empty, Rules(1.0, 1.0)).play(
            "update", 1, told=told.append
        )
    assert told == [0.0]
