"""FedAdam takes Adam's steps on the clients' mean change."""

import math

import pytest

from fedcl.federated.fedadam import FedAdam


def test_the_server_takes_adams_steps(plain, aggregated):
    # x = 1, mean 3, D = 2: m = 0.5 * 2 = 1; v = 0.75 * 0.1**2 + 0.25 * 4 = 1.0075
    # x = 1 + 0.4 * 1 / (sqrt(1.0075) + 0.1), and so on with the mean 0.
    x = 1 + 0.4 / (math.sqrt(1.0075) + 0.1)
    m, v = 0.5 * 1 + 0.5 * (0 - x), 0.75 * 1.0075 + 0.25 * x**2
    method = FedAdam(2, plain(), 0.4, (0.5, 0.75), 0.1)
    server = aggregated(method, 1.0, [[(1, 0.0), (3, 4.0)], [(5, 0.0)]])
    assert server.weights["w"].numpy() == pytest.approx(x + 0.4 * m / (math.sqrt(v) + 0.1))


def test_with_a_huge_tau_it_goes_along_the_mean_change(plain, world, aggregated):
    # sqrt(v) << tau: x + eta / tau * D without first momentum.
    method = FedAdam(1, plain(), 1e6, (0.0, 0.99), 1e6)
    server = aggregated(method, 1.0, [[(1, 0.0), (3, 4.0)]])
    # v starts at tau squared, so the root is tau as well: half of the way from 1 to 3
    assert server.weights["w"].numpy() == pytest.approx(2.0, abs=0.01)


def test_weights_stay_float32_in_every_round(plain, world, trained):
    weights = trained(FedAdam(3, plain(), 0.01, (0.9, 0.99), 1e-3), world, 3)
    assert {str(tensor.dtype) for tensor in weights.values()} == {"torch.float32"}


@pytest.mark.parametrize(
    ("rate", "betas", "tau", "reason"),
    [
        (0.0, (0.9, 0.99), 1e-3, "federated.learning_rate must be"),
        (0.1, (0.9, 1.0), 1e-3, "federated.betas must be"),
        (0.1, (0.9,), 1e-3, r"federated.betas must be two numbers, got \[0.9\]"),
        (0.1, (0.9, 0.99), 0.0, "federated.tau must be"),
    ],
)
def test_bad_values_are_refused(plain, rate, betas, tau, reason):
    with pytest.raises(ValueError, match=reason):
        FedAdam(1, plain(), rate, betas, tau)
