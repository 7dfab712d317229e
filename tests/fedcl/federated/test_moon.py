"""MOON's contrast pulls features to the global network's and off the last ones."""

import math

import pytest
import torch
from flwr.app import RecordDict

from fedcl.federated.base import LocalTask
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.moon import PREVIOUS, Moon, contrastive_loss
from fedcl.wire import pack_tensors, pack_weights


def test_the_contrast_is_the_softmax_of_two_cosines():
    # z along x; global at 60 degrees (cosine 1/2), last at 90 degrees (cosine 0); tau = 1/2:
    # -log(e^1 / (e^1 + e^0)); the second image is at 0 degrees to both: log 2.
    z = torch.tensor([[2.0, 0.0], [1.0, 0.0]])
    z_glob = torch.tensor([[1.0, math.sqrt(3)], [5.0, 0.0]])
    z_prev = torch.tensor([[0.0, 3.0], [1.0, 0.0]])
    wanted = (-math.log(math.e / (math.e + 1)) + math.log(2)) / 2
    assert contrastive_loss(z, z_glob, z_prev, 0.5).item() == pytest.approx(wanted)


def test_the_contrast_falls_as_features_move_to_the_global_ones(rng):
    z = torch.randn(5, 8, generator=rng, requires_grad=True)
    z_glob, z_prev = (torch.randn(5, 8, generator=rng, requires_grad=True) for _ in range(2))
    contrastive_loss(z, z_glob, z_prev, 0.5).backward()
    assert z_glob.grad is None
    assert z_prev.grad is None
    near, far = (torch.cosine_similarity(z.detach() - z.grad, other) for other in (z_glob, z_prev))
    was_near, was_far = (torch.cosine_similarity(z.detach(), other) for other in (z_glob, z_prev))
    assert (near - far > was_near - was_far).all()


def second_round(method, world, state):
    sent = {"arrays": pack_weights(world.first_network())}
    return method.local_update(LocalTask(world, 0, 2, 0, sent, state))["arrays"]


def with_last_network(world):
    state, last = RecordDict(), world.first_network().state_dict()
    state[PREVIOUS] = pack_tensors({name: tensor.flip(0) for name, tensor in last.items()})
    return state


def test_the_last_network_pushes_the_training(plain, world):
    method = Moon(2, plain(), 5.0, 0.5)
    pushed = second_round(method, world, with_last_network(world)).to_torch_state_dict()
    free = second_round(method, world, RecordDict()).to_torch_state_dict()
    assert any(not pushed[key].allclose(free[key]) for key in free)


def test_one_step_follows_the_sum_of_both_losses(plain, world):
    # One whole-batch step from w: w - 0.1 (grad CE + mu grad contrast), by autograd.
    network, prev, (data,) = world.first_network(), world.first_network(), world.clients[0]
    state = with_last_network(world)
    prev.load_state_dict(state[PREVIOUS].to_torch_state_dict())
    z = network.embed(data.images)
    z_glob, z_prev = network.embed(data.images).detach(), prev.embed(data.images).detach()
    near, far = torch.cosine_similarity(z, z_glob), torch.cosine_similarity(z, z_prev)
    contrast = -((near / 0.5).exp() / ((near / 0.5).exp() + (far / 0.5).exp())).log().mean()
    loss = torch.nn.functional.cross_entropy(network.classifier(z), data.labels) + 5 * contrast
    loss.backward()
    stepped = second_round(Moon(2, plain(batch=12), 5.0, 0.5), world, state).to_torch_state_dict()
    for name, w in network.named_parameters():
        torch.testing.assert_close(stepped[name], w.detach() - 0.1 * w.grad, atol=1e-6, rtol=1e-4)


def test_mu_of_zero_and_the_first_round_are_fedavg(plain, world, trained, local_weights):
    averaged, moon = (
        trained(FedAvg(2, plain()), world, 2),
        trained(Moon(2, plain(), 0.0, 0.5), world, 2),
    )
    assert all(averaged[key].allclose(moon[key], atol=1e-7) for key in averaged)
    first = local_weights(Moon(1, plain(), 9.0, 0.5), world)
    assert all(first[k].equal(v) for k, v in local_weights(FedAvg(1, plain()), world).items())


@pytest.mark.parametrize(
    ("mu", "tau", "reason"), [(-1, 0.5, "federated.mu must be"), (1, 0, "federated.temperature")]
)
def test_bad_values_are_refused(plain, mu, tau, reason):
    with pytest.raises(ValueError, match=reason):
        Moon(1, plain(), mu, tau)


def test_a_client_keeps_what_it_uploads(plain, world):
    state = RecordDict()
    uploaded = second_round(Moon(2, plain(), 1.0, 0.5), world, state).to_torch_state_dict()
    kept = state[PREVIOUS].to_torch_state_dict()
    assert all(uploaded[key].equal(kept[key]) for key in uploaded)
