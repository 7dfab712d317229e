"""FedAvgM takes the clients' mean change for a gradient, and is FedAvg without momentum."""

import pytest

from fedcl.federated.fedavg import FedAvg
from fedcl.federated.fedavgm import FedAvgM


def test_the_server_takes_momentum_steps(plain, aggregated):
    # w0 = 4; means 3 (weighted: (1 * 0 + 3 * 4) / 4) and 2.
    # round 1: change 4 - 3 = 1, v = 1, w = 4 - 0.5 * 1 = 3.5
    # round 2: change 3.5 - 2 = 1.5, v = 0.9 * 1 + 1.5 = 2.4, w = 3.5 - 0.5 * 2.4 = 2.3
    method = FedAvgM(2, plain(), 0.9, 0.5)
    server = aggregated(method, 4.0, [[(1, 0.0), (3, 4.0)], [(1, 2.0)]])
    assert server.weights["w"].numpy() == pytest.approx(2.3)
    assert server.kept["w"].item() == pytest.approx(2.4)


def test_without_momentum_it_is_fedavg(plain, world, trained):
    averaged = trained(FedAvg(3, plain()), world, 3)
    stepped = trained(FedAvgM(3, plain(), 0.0, 1.0), world, 3)
    assert all(averaged[key].allclose(stepped[key], atol=1e-6) for key in averaged)


def test_momentum_reaches_the_second_round(plain, world, trained):
    still, moving = (trained(FedAvgM(2, plain(), beta, 1.0), world, 2) for beta in (0.0, 0.9))
    assert any(not still[key].allclose(moving[key]) for key in still)


@pytest.mark.parametrize(
    ("momentum", "rate", "reason"),
    [(1.0, 1.0, "federated.momentum must be"), (0.9, 0.0, "federated.learning_rate must be")],
)
def test_bad_values_are_refused(plain, momentum, rate, reason):
    with pytest.raises(ValueError, match=reason):
        FedAvgM(1, plain(), momentum, rate)
