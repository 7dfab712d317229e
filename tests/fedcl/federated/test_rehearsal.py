"""A rehearsal sends what the run will send, and leaves the work undone."""

from dataclasses import replace

import pytest
import torch

from distill.coresets import KMeans, Random
from distill.networks import ConvNet
from fedcl.compression.quantised import Quantised
from fedcl.compression.sign import Sign
from fedcl.compression.top_k import TopK
from fedcl.federated import rehearsal
from fedcl.federated.channel import Channel
from fedcl.federated.dynafed import DynaFed
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.moon import Moon
from fedcl.federated.one_shot import OneShot
from fedcl.federated.rehearsal import Rehearsed, Round, UnknownError, rehearse
from fedcl.federated.scaffold import Scaffold
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules

ALL, SOME = Rules(1.0, 1.0), Rules(0.67, 1.0)
CHANNELS = {
    "plain": Channel(),
    "int8": Channel(Quantised(), Quantised()),
    "sign": Channel(Sign(), Sign()),
    "up": Channel(TopK(0.1), None),
}


def sizes(reports):
    keys = ("round", "client", "bytes_up", "bytes_down", "payload_bytes", "failure")
    return [[{key: row[key] for key in keys} for row in report.clients] for report in reports]


def played(method, world, rounds, rules, channel):
    simulation = Simulation({"update": method}, world, rules, channel)
    return [simulation.play("update", number) for number in range(1, rounds + 1)]


def rehearsed(method, world, rounds=1, rules=ALL, channel=CHANNELS["plain"]):
    schedule = [Round(number, 0, "update") for number in range(1, rounds + 1)]
    return rehearse({"update": method}, world, rules, channel, schedule)


@pytest.mark.parametrize("rules", [ALL, SOME], ids=["all", "some"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_every_client_sends_and_gets_the_bytes_of_the_run(world, plain, channel, rules):
    for method in (FedAvg(3, plain()), Scaffold(3, plain(), 1.0), Moon(3, plain(), 1.0, 0.5)):
        told = rehearsed(method, world, 3, rules, CHANNELS[channel])
        run = played(method, world, 3, rules, CHANNELS[channel])
        assert sizes(told.reports) == sizes(run)


def test_arrays_that_are_equal_at_first_travel_once_and_apart_later(world, plain):
    # The blocks of a ConvNet start with the same ones and zeros.
    deep = replace(world, architecture=ConvNet(2, 2))
    told, run = (
        rehearsed(FedAvg(2, plain()), deep, 2),
        played(FedAvg(2, plain()), deep, 2, ALL, Channel()),
    )
    assert sizes(told.reports) == sizes(run)
    assert run[0].totals["bytes_down"] < run[1].totals["bytes_down"]


def test_small_sets_have_the_images_that_clients_have(world, plain):
    # 12, 6 and 9 images of three classes: 4, 2 and 3 of a class, of which 3 are asked for.
    method = OneShot(KMeans(), 3, plain())
    told = rehearsed(method, world)
    assert sizes(told.reports) == sizes(played(method, world, 1, ALL, Channel()))
    (server,) = [work for work, _ in told.work if work.name == "server training"]
    assert server.units == 6  # 9 + 6 + 9 images in batches of 4


def test_work_is_counted_for_all_rounds_of_all_clients(world, plain):
    # Two epochs of 12, 6 and 9 images in batches of 4: 6, 4 and 6 steps, three times.
    told = rehearsed(FedAvg(3, plain(epochs=2)), world, 3)
    assert [(work.name, work.units, times) for work, times in told.work] == [
        ("local training", steps, 3) for steps in (6, 4, 6)
    ]


def test_a_server_that_works_in_some_rounds_is_told_so(world, plain):
    method = DynaFed(4, plain(), 2, Random(), 1, plain(epochs=5))
    names = [work.name for work, _ in rehearsed(method, world, 4).work]
    assert names.count("server distilling") == 1  # in round 2
    assert names.count("mending") == 3


def test_what_clients_keep_grows_as_in_the_run(world, plain):
    method = Moon(1, plain(), 1.0, 0.5)
    simulation = Simulation({"update": method}, world, ALL)
    simulation.play("update", 1)
    kept = [sum(map(len, blobs.values())) for _, blobs in simulation.grid.states.values()]
    states = rehearsed(method, world).simulation.grid.states
    assert [sum(map(len, blobs.values())) for _, blobs in states.values()] == kept
    assert min(kept) > 0


def test_no_network_is_trained(world, plain):
    told = rehearsed(FedAvg(2, plain()), world, 2)
    first = world.first_network().state_dict()
    for name, weights in told.simulation.task.weights.to_torch_state_dict().items():
        torch.testing.assert_close(weights, first[name], rtol=0, atol=0)


def test_rounds_beyond_enough_are_like_the_last_that_was_played(world, plain, monkeypatch):
    monkeypatch.setattr(rehearsal, "ENOUGH", 1)
    told = rehearsed(FedAvg(5, plain()), world, 5, ALL, CHANNELS["sign"])
    run = played(FedAvg(5, plain()), world, 5, ALL, CHANNELS["sign"])
    assert told.played == 2
    for key in ("bytes_up", "bytes_down"):
        assert [r.totals[key] for r in told.reports] == [r.totals[key] for r in run]


def test_a_method_that_does_not_sketch_is_refused(world, plain):
    with pytest.raises(UnknownError, match="Rehearsed does not sketch its uploads"):
        rehearsed(Rehearsed(FedAvg(1, plain())), world)
