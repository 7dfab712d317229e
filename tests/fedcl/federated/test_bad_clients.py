"""A client that misbehaves is counted and named; the rest of the round goes on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from distill.augment import Augmentation
from distill.coresets import Random
from distill.training import Recipe
from fedcl.federated import averaging, moon
from fedcl.federated.base import FederatedMethod
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.moon import Moon
from fedcl.federated.one_shot import OneShot
from fedcl.federated.scaffold import Scaffold
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import RoundFailedError, Rules

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))


@dataclass(frozen=True)
class Spoilt(FederatedMethod):
    """A method of which client 1 spoils what it uploads."""

    inner: FederatedMethod
    spoil: Callable[[ArrayRecord], Mapping[str, ArrayRecord]]
    rounds: int = 1
    vectors = ("arrays",)

    def broadcast(self, server):
        return self.inner.broadcast(server)

    def local_update(self, task):
        records = self.inner.local_update(task)
        (sent,) = records.values()
        return self.spoil(sent) if task.client == 1 else records

    def check(self, upload, server):
        self.inner.check(upload, server)

    def aggregate(self, server, uploads):
        kept = list(uploads)
        assert [upload.client for upload in kept] == [0, 2]
        return self.inner.aggregate(server, kept)


def crash(_arrays):
    raise RuntimeError("out of coffee")


def with_array(name: str, change: Callable[[np.ndarray], np.ndarray], record: str = "arrays"):
    def spoil(arrays: ArrayRecord) -> Mapping[str, ArrayRecord]:
        changed = {key: Array(array.numpy()) for key, array in arrays.items()}
        changed[name] = Array(change(arrays[name].numpy().copy()))
        return {record: ArrayRecord(changed)}

    return spoil


def many(_arrays):
    images = np.zeros((10_000, 1, 8, 8), np.uint8)
    counts = np.array([10_000, 0, 0], np.int32)
    return {"images": ArrayRecord({"images": Array(images), "counts": Array(counts)})}


WEIGHTS = "classifier.weight"
BAD = {
    "raises": (FedAvg(1, RECIPE), crash, "RuntimeError: out of coffee"),
    "nan": (
        FedAvg(1, RECIPE),
        with_array(WEIGHTS, lambda w: w * np.float32("nan")),
        "classifier.weight must be finite",
    ),
    "huge": (
        FedAvg(1, RECIPE),
        with_array(WEIGHTS, lambda w: np.full_like(w, 3e38)),
        r"classifier.weight must be in \[-1e\+06, 1e\+06\], got 3e\+38 to 3e\+38",
    ),
    "shape": (
        FedAvg(1, RECIPE),
        with_array(WEIGHTS, lambda w: w[:1]),
        r"classifier.weight must be float32 of shape \(3, 4\), got float32 of shape \(1, 4\)",
    ),
    "dtype": (
        FedAvg(1, RECIPE),
        with_array(WEIGHTS, lambda w: w.astype(np.float64)),
        "got float64",
    ),
    "name": (
        FedAvg(1, RECIPE),
        lambda _: {"arrays": ArrayRecord()},
        "arrays must be embedding",
    ),
    "no record": (FedAvg(1, RECIPE), lambda _: {}, "records must be arrays, got none"),
    "one record more": (
        FedAvg(1, RECIPE),
        lambda arrays: {"arrays": arrays, "more": arrays},
        "records must be arrays, got arrays, more",
    ),
    "ten thousand images": (OneShot(Random(), 1, RECIPE), many, r"counts must be in \[0, 1\]"),
    "class outside": (
        OneShot(Random(), 1, RECIPE),
        with_array("counts", lambda c: np.append(c, c[:1]), "images"),
        r"counts must be int32 of shape \(3,\)",
    ),
    "image shape": (
        OneShot(Random(), 1, RECIPE),
        with_array("images", lambda x: x[:, :, :7], "images"),
        "images must be uint8 of shape",
    ),
    "image type": (
        OneShot(Random(), 1, RECIPE),
        with_array("images", lambda x: x.astype(np.float32), "images"),
        "got float32",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_client_is_named_and_the_round_goes_on(world, case):
    method, spoil, reason = BAD[case]
    simulation = Simulation({"update": Spoilt(method, spoil)}, world, Rules(1.0, 0.5))
    report = simulation.play("update", 1)
    assert report.totals["failures"] == 1
    (failure,) = [row["failure"] for row in report.clients if row["failure"]]
    assert report.clients[1]["failure"] == failure
    with pytest.raises(ValueError, match=reason):
        raise ValueError(failure)


@pytest.mark.parametrize(("claimed", "failures"), [(6, 0), (7, 1), (10**15, 1), (0, 1)])
def test_a_client_has_used_no_more_images_than_it_has(world, monkeypatch, claimed, failures):
    honest = FedAvg.local_update

    def claiming(self, task):
        if task.client == 1:
            task.notes["num-examples"] = claimed
        return honest(self, task)

    monkeypatch.setattr(FedAvg, "local_update", claiming)
    simulation = Simulation({"update": FedAvg(1, RECIPE)}, world, Rules(1.0, 0.5))
    report = simulation.play("update", 1)
    assert report.totals["failures"] == failures
    if failures:
        assert "must be a whole number in [1, 6]" in report.clients[1]["failure"]


@pytest.mark.parametrize(
    "method", [FedAvg(2, RECIPE), Scaffold(2, RECIPE, 1.0), Moon(2, RECIPE, 1.0, 0.5)]
)
def test_a_client_whose_training_diverges_once_goes_on_from_what_it_had(world, monkeypatch, method):
    fits, diverges = averaging.train, [True]

    def train(network, data, *others):
        fits(network, data, *others)
        if len(data) == 6 and diverges.pop(0):
            network.classifier.bias.data.fill_(torch.nan)

    diverges += [False]
    monkeypatch.setattr(averaging, "train", train)
    monkeypatch.setattr(moon, "train", train)
    simulation = Simulation({"update": method}, world, Rules(1.0, 0.5))
    first, second = (simulation.play("update", number) for number in (1, 2))
    assert "weights must stay finite" in first.clients[1]["failure"]
    assert second.totals["failures"] == 0


def test_a_share_that_is_reached_is_enough_however_it_is_rounded(world):
    # 0.56 * 25 is 14.000000000000002
    simulation = Simulation({"update": FedAvg(1, RECIPE)}, world, Rules(1.0, 0.56))
    strategy = simulation.strategies["update"]
    strategy.asked = {node: node for node in range(25)}
    strategy.failures = dict.fromkeys(range(11), "gone")
    strategy._check_completion(1, {})
    strategy.failures[11] = "gone"
    with pytest.raises(RoundFailedError, match="got 13 of 25 clients"):
        strategy._check_completion(1, {})


def test_too_few_clients_fail_the_round_with_the_reasons(world):
    spoilt = Spoilt(FedAvg(1, RECIPE), crash)
    simulation = Simulation({"update": spoilt}, world, Rules(1.0, 0.9))
    with pytest.raises(
        RoundFailedError, match=r"got 2 of 3 clients in round 1: client 1: .*coffee"
    ):
        simulation.play("update", 1)


def test_participation_asks_a_share_of_the_clients_chosen_by_round(world):
    simulation = Simulation({"update": FedAvg(1, RECIPE)}, world, Rules(0.34, 0.0))
    asked = [simulation.play("update", n).clients for n in range(1, 9)]
    assert {len(rows) for rows in asked} == {1}
    assert len({rows[0]["client"] for rows in asked}) > 1


def test_a_simulation_goes_on_from_its_state_as_if_unbroken(world):
    def play(simulation, numbers):
        for number in numbers:
            simulation.play("update", number)
        return simulation.task.weights.to_torch_state_dict()

    methods, rules = {"update": FedAvg(4, RECIPE)}, Rules(1.0, 0.5)
    whole = Simulation(methods, world, rules)
    unbroken = play(whole, range(1, 5))
    first, second = Simulation(methods, world, rules), Simulation(methods, world, rules)
    play(first, range(1, 3))
    second.restore(first.state())
    resumed = play(second, range(3, 5))
    assert all(unbroken[key].equal(resumed[key]) for key in unbroken)


def test_every_message_is_counted_in_both_directions(world):
    simulation = Simulation({"update": OneShot(Random(), 1, RECIPE)}, world, Rules(1.0, 0.5))
    report = simulation.play("update", 1)
    # three clients, three classes, one image of 64 bytes each, and three int32 counts
    assert report.totals["payload_bytes"] == 3 * (3 * 64 + 3 * 4)
    assert report.totals["bytes_up"] > report.totals["payload_bytes"]
    assert report.totals["bytes_down"] > 0


def test_clients_work_one_after_the_other_as_their_uploads_are_read(world):
    # A thousand uploads must never lie in memory at once: a client works when it is asked for.
    worked = []

    def note(arrays):
        worked.append(len(worked))
        return {"arrays": arrays}

    @dataclass(frozen=True)
    class Watching(FederatedMethod):
        inner: FederatedMethod
        rounds: int = 1
        vectors = ()

        def broadcast(self, server):
            return self.inner.broadcast(server)

        def local_update(self, task):
            return note(self.inner.local_update(task)["arrays"])

        def check(self, upload, server):
            self.inner.check(upload, server)

        def aggregate(self, server, uploads):
            for number, _ in enumerate(uploads):
                assert worked == list(range(number + 1))
            return server

    Simulation({"update": Watching(FedAvg(1, RECIPE))}, world, Rules(1.0, 1.0)).play("update", 1)
    assert worked == [0, 1, 2]


def test_clients_work_though_no_upload_is_read(world):
    @dataclass(frozen=True)
    class Deaf(FederatedMethod):
        rounds: int = 1
        vectors = ()

        def broadcast(self, server):
            return {}

        def local_update(self, task):
            return {}

        def check(self, upload, server):
            upload.check_names()

        def aggregate(self, server, uploads):
            return server

    report = Simulation({"update": Deaf()}, world, Rules(1.0, 1.0)).play("update", 1)
    assert [row["client"] for row in report.clients] == [0, 1, 2]


def test_equal_seeds_give_equal_weights(world):
    simulation = Simulation({"update": FedAvg(1, RECIPE)}, replace(world, seed=1), Rules(1.0, 0.5))
    again = Simulation({"update": FedAvg(1, RECIPE)}, replace(world, seed=1), Rules(1.0, 0.5))
    simulation.play("update", 1)
    again.play("update", 1)
    first, second = simulation.task.weights, again.task.weights
    assert all((first[key].numpy() == second[key].numpy()).all() for key in first)
