"""FedNova averages directions of equal length."""

from dataclasses import replace

import pytest
import torch

from fedcl.federated.fedavg import FedAvg
from fedcl.federated.fednova import FedNova


def test_directions_count_alike_however_many_steps_made_them(plain, aggregated):
    # Batches of 4: 4 images are 1 step, 12 are 3. x = 0, x_1 = -1, x_2 = -9.
    # d = 1 and 3; mean (1 * 4 + 3 * 12) / 16 = 2.5; way (1 * 4 + 3 * 12) / 16 = 2.5 steps.
    server = aggregated(FedNova(1, plain()), 0.0, [[(4, -1.0), (12, -9.0)]])
    assert server.weights["w"].numpy() == pytest.approx(-6.25)


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_length_is_the_sum_of_the_gradients_weights(plain, rho):
    # v <- rho v + g, w <- w - v: over tau steps gradient j has the weight sum_{i<tau-j} rho^i.
    tau = 5
    naive = sum(sum(rho**i for i in range(tau - j)) for j in range(tau))
    assert FedNova(1, plain(batch=1, momentum=rho)).length(tau) == pytest.approx(naive)


def test_length_is_how_far_torch_goes_on_a_constant_gradient(plain):
    weight = torch.nn.Parameter(torch.zeros(1))
    recipe = plain(batch=2, momentum=0.9)
    optimiser = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    for _ in range(3):  # 6 images in batches of 2
        weight.grad = torch.ones(1)
        optimiser.step()
    assert FedNova(1, recipe).length(6) == pytest.approx(-weight.item())


def test_with_equal_clients_it_is_fedavg(plain, world, trained):
    alike = replace(world, clients=[[client[0].rows(range(6))] for client in world.clients])
    averaged, nova = (trained(m(2, plain()), alike, 2) for m in (FedAvg, FedNova))
    assert all(averaged[key].allclose(nova[key], atol=1e-6) for key in averaged)


def test_with_unequal_clients_it_isnt(plain, world, trained):
    averaged, nova = (trained(m(1, plain()), world, 1) for m in (FedAvg, FedNova))
    assert any(not averaged[key].allclose(nova[key]) for key in averaged)


def test_unequal_steps_are_refused(plain):
    with pytest.raises(ValueError, match=r"training.optimiser must be sgd"):
        FedNova(1, replace(plain(), optimiser="adam"))
