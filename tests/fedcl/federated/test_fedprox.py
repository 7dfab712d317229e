"""FedProx holds clients near the global network, and is FedAvg at mu = 0."""

import pytest
from flwr.app import RecordDict

from distill.augment import Augmentation
from distill.training import Recipe
from fedcl.federated.base import LocalTask
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.fedprox import FedProx
from fedcl.wire import pack_weights

PLAIN = Augmentation([], mirror=False)


def recipe(epochs: int, batch: int = 4) -> Recipe:
    return Recipe(epochs, batch, 0.1, 0.0, 0.0, None, PLAIN)


def updated(method, world):
    sent = {"arrays": pack_weights(world.first_network())}
    records = method.local_update(LocalTask(world, 0, 1, 0, sent, RecordDict()))
    return records["arrays"].to_torch_state_dict()


def test_mu_of_zero_is_fedavg(world):
    plain, prox = updated(FedAvg(1, recipe(2)), world), updated(FedProx(1, recipe(2), 0.0), world)
    assert all(plain[key].equal(prox[key]) for key in plain)


def test_first_step_has_no_proximal_force(world):
    # One step from the anchor itself: w - w_t = 0 when the gradient is taken.
    plain = updated(FedAvg(1, recipe(1, 12)), world)
    prox = updated(FedProx(1, recipe(1, 12), 5.0), world)
    assert all(plain[key].equal(prox[key]) for key in plain)


def test_second_step_is_pulled_back_by_mu_times_the_way_gone(world):
    # Whole-batch steps w1 = w0 - a g0 and w2 = w1 - a (g1 + mu (w1 - w0)): the proximal run
    # differs from plain descent by -a mu (w1 - w0).
    start = world.first_network().state_dict()
    one = updated(FedAvg(1, recipe(1, 12)), world)
    two = updated(FedAvg(1, recipe(2, 12)), world)
    prox = updated(FedProx(1, recipe(2, 12), 2.0), world)
    for key in start:
        pulled = two[key] - 0.1 * 2.0 * (one[key] - start[key])
        assert prox[key].allclose(pulled, atol=1e-6), key


def test_negative_mu_is_refused():
    with pytest.raises(ValueError, match=r"federated.mu must be >= 0, got -1"):
        FedProx(1, recipe(1), -1)
