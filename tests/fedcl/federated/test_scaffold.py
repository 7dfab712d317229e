"""SCAFFOLD agrees with a naive loop that sends both vectors, as the paper does."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from fedcl.compression.sign import Sign
from fedcl.compression.top_k import TopK
from fedcl.federated.channel import Channel
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.scaffold import CONTROL, Scaffold
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import pack_tensors, thaw


def zeros_like(tensors):
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def naive_client(world, data, x, c, c_i, steps, eta_l):
    """Algorithm 1 of the paper, lines 7 to 13, on whole-batch gradients."""
    network = world.first_network()
    y = {name: tensor.clone() for name, tensor in x.items()}
    for _ in range(steps):
        network.load_state_dict(y)
        loss = F.cross_entropy(network(data.images), data.labels)
        g = torch.autograd.grad(loss, list(network.parameters()))
        for (name, _), g_j in zip(network.named_parameters(), g, strict=True):
            y[name] = y[name] - eta_l * (g_j - c_i[name] + c[name])
    c_new = {n: c_i[n] - c[n] + (x[n] - y[n]) / (steps * eta_l) for n in x}
    return {n: y[n] - x[n] for n in x}, {n: c_new[n] - c_i[n] for n in x}, c_new


def naive_rounds(world, rounds, steps, eta_l, eta_g):
    x = {n: t.clone() for n, t in world.first_network().state_dict().items()}
    c, own = zeros_like(x), [zeros_like(x) for _ in world.clients]
    for _ in range(rounds):
        sent = []
        for i, (data,) in enumerate(world.clients):
            dy, dc, own[i] = naive_client(world, data, x, c, own[i], steps, eta_l)
            sent.append((len(data), dy, dc))
        images = sum(n_i for n_i, _, _ in sent)
        x = {n: x[n] + eta_g * sum(n_i / images * dy[n] for n_i, dy, _ in sent) for n in x}
        c = {n: c[n] + sum(n_i / images * dc[n] for n_i, _, dc in sent) for n in c}
    return x, c


def test_three_rounds_agree_with_the_papers_loop(plain, world):
    # batches of 12 hold every client's whole data, so that no order is drawn
    method = Scaffold(3, plain(epochs=4, batch=12), 0.5)
    simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
    for number in range(1, 4):
        simulation.play("update", number)
    x, c = naive_rounds(world, 3, 4, 0.1, 0.5)
    weights = simulation.task.weights.to_torch_state_dict()
    for name in x:
        torch.testing.assert_close(weights[name], x[name], atol=2e-6, rtol=1e-4)
        torch.testing.assert_close(simulation.task.kept[name], c[name], atol=2e-5, rtol=1e-3)


def test_absent_clients_change_the_control_by_their_share_only(plain, aggregated):
    # 3 clients, 1 in the round: 4 images are one step of 0.1; x = 0, y = -1.
    # dc = -c + (0 + 1) / 0.1 = 10, of which c takes the share of these images, 4 of 27; the
    # weights take the whole step.
    server = aggregated(Scaffold(1, plain(), 1.0), 0.0, [[(4, -1.0)]])
    assert server.weights["w"].numpy() == pytest.approx(-1.0)
    assert server.kept["w"].item() == pytest.approx(10 * 4 / 27)


def test_clients_weigh_as_much_as_their_images(plain, aggregated):
    # 2 of 3 clients: 4 images are one step of 0.1, 12 are three; x = 0.
    # x = 1 * (4 / 16 * -1 + 12 / 16 * 3) = 2;
    # dc = 4 / 16 * 1 / 0.1 + 12 / 16 * -3 / 0.3 = -5, of which c takes 16 / 27.
    server = aggregated(Scaffold(1, plain(), 1.0), 0.0, [[(4, -1.0), (12, 3.0)]])
    assert server.weights["w"].numpy() == pytest.approx(2.0)
    assert server.kept["w"].item() == pytest.approx(-5 * 16 / 27)


def test_a_client_trains_as_in_fedavg_while_controls_are_zero(plain, world, local_weights):
    zero = pack_tensors(zeros_like(world.first_network().state_dict()))
    plain_weights = local_weights(FedAvg(1, plain(3)), world)
    corrected = local_weights(Scaffold(1, plain(3), 1.0), world, **{CONTROL: zero})
    assert all(plain_weights[key].equal(corrected[key]) for key in plain_weights)


def test_an_upload_is_no_larger_than_fedavgs(plain, world):
    def bytes_up(method):
        simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
        return simulation.play("update", 1).totals["bytes_up"]

    assert bytes_up(Scaffold(1, plain(), 1.0)) == bytes_up(FedAvg(1, plain()))


@pytest.mark.parametrize("up", [None, TopK(0.1), Sign()])
@pytest.mark.parametrize("down", [None, TopK(0.1)])
@pytest.mark.parametrize("participation", [1.0, 0.5])
def test_the_control_stays_the_mean_of_the_clients_where_messages_lose_something(
    plain, world, up, down, participation
):
    method, rules = Scaffold(4, plain(2), 1.0), Rules(participation, 1.0)
    simulation = Simulation({"update": method}, world, rules, Channel(up, down))
    for number in range(1, 5):
        simulation.play("update", number)
    states = [thaw(state) for _, state in sorted(simulation.grid.states.items())]
    none = zeros_like(simulation.task.kept)
    own = [s[CONTROL].to_torch_state_dict() if CONTROL in s else none for s in states]
    share = torch.tensor([len(data) for (data,) in world.clients]).float()
    share /= share.sum()
    for name, c in simulation.task.kept.items():
        mean = sum(p * c_i[name] for p, c_i in zip(share, own, strict=True))
        torch.testing.assert_close(mean, c, atol=1e-4, rtol=1e-3)


def test_a_resumed_run_keeps_both_controls(plain, world):
    method, rules = {"update": Scaffold(4, plain(), 1.0)}, Rules(1.0, 1.0)
    unbroken, first, second = (Simulation(method, world, rules) for _ in range(3))
    for number in range(1, 5):
        unbroken.play("update", number)
    for number in range(1, 3):
        first.play("update", number)
    second.restore(first.state())
    for number in range(3, 5):
        second.play("update", number)
    ours, theirs = (s.task.weights.to_torch_state_dict() for s in (unbroken, second))
    assert all(ours[key].equal(theirs[key]) for key in ours)


@pytest.mark.parametrize(
    ("change", "rate", "reason"),
    [
        ({"optimiser": "adam"}, 1.0, "training.optimiser must be sgd"),
        ({}, 0.0, "federated.learning_rate must be"),
    ],
)
def test_bad_values_are_refused(plain, change, rate, reason):
    with pytest.raises(ValueError, match=reason):
        Scaffold(1, replace(plain(), **change), rate)
