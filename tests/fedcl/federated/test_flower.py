"""Flower's own strategies aggregate what our clients upload."""

import copy

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian

from fedcl.federated import fedavg
from fedcl.federated.flower import FlowerStrategy
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules


@pytest.fixture(autouse=True)
def in_a_run(world, plain):
    """A grid sets the identity that Flower's messages need."""
    Simulation({"update": fedavg.FedAvg(1, plain())}, world, Rules(1.0, 1.0))


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def test_flowers_fedavg_is_ours(plain, world, trained):
    ours = flat(trained(fedavg.FedAvg(3, plain()), world, 3))
    flowers = flat(trained(FlowerStrategy(3, plain(), FedAvg()), world, 3))
    torch.testing.assert_close(flowers, ours, atol=1e-6, rtol=1e-5)


def test_the_median_is_taken(plain, aggregated):
    server = aggregated(FlowerStrategy(1, plain(), FedMedian()), 0.0, [[(1, 1), (1, 2), (1, 90)]])
    assert server.weights["w"].numpy() == pytest.approx(2.0)


def test_moments_outlast_a_round_and_weights_stay_float32(plain, aggregated):
    # Flower's FedAdam from x = 0 to the mean 1, then again: by its formula, with its bias terms
    strategy = FedAdam(eta=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3)
    rows = [[(1, 1.0), (1, 1.0)], [(1, 1.0), (1, 1.0)]]
    server = aggregated(FlowerStrategy(2, plain(), strategy), 0.0, rows)
    x = m = v = 0.0
    for _ in range(2):
        delta = 1.0 - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        # the fixture's rounds are all number 0
        x += 0.1 * np.sqrt(1 - 0.99) / (1 - 0.9) * m / (np.sqrt(v) + 1e-3)
    assert server.weights["w"].numpy() == pytest.approx(x, rel=1e-5)
    assert server.weights["w"].numpy().dtype == np.float32


def test_the_strategy_given_is_never_changed(plain, aggregated):
    strategy = FedAdam()
    before = copy.deepcopy(vars(strategy))
    aggregated(FlowerStrategy(1, plain(), strategy), 0.0, [[(1, 1.0), (1, 2.0)]])
    assert vars(strategy) == before


def test_a_resumed_run_ends_as_an_unbroken_one(plain, world):
    method = {"update": FlowerStrategy(4, plain(), FedAdam())}
    unbroken, first, second = (Simulation(method, world, Rules(1.0, 1.0)) for _ in range(3))
    for number in range(1, 5):
        unbroken.play("update", number)
    for number in (1, 2):
        first.play("update", number)
    second.restore(first.state())
    for number in (3, 4):
        second.play("update", number)
    ours, theirs = (flat(s.task.weights.to_torch_state_dict()) for s in (unbroken, second))
    assert ours.equal(theirs)


@pytest.mark.parametrize("sent", ["push_messages", "pull_messages", "send_and_receive"])
def test_a_strategy_that_sends_by_itself_is_refused(plain, aggregated, sent):
    class Chatty(FedAvg):
        def configure_train(self, server_round, arrays, config, grid):
            return vars(type(grid))[sent](grid, [])

    with pytest.raises(ValueError, match=r"must only choose nodes .* but sends messages itself"):
        aggregated(FlowerStrategy(1, plain(), Chatty()), 0.0, [[(1, 1.0), (1, 2.0)]])


def test_too_few_clients_are_refused_and_not_waited_for(plain, aggregated, monkeypatch):
    monkeypatch.setattr("flwr.serverapp.strategy.strategy_utils.sleep", lambda seconds: None)
    with pytest.raises(ValueError, match="must do with 1 clients, but waits for more"):
        aggregated(FlowerStrategy(1, plain(), FedAvg()), 0.0, [[(1, 1.0)]])
