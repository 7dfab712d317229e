"""DynaFed is FedAvg until the server has a set, which mends every later mean."""

from dataclasses import dataclass, replace

import pytest
import torch

from distill.condenser import Condenser, condense
from distill.coresets import Noise
from distill.rng import derive, subseed
from distill.training import train
from fedcl.federated.averaging import weighted_mean
from fedcl.federated.dynafed import DynaFed
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.simulation import Simulation
from fedcl.federated.small_sets import without_images
from fedcl.federated.strategy import Rules


@dataclass(frozen=True)
class Noting(Condenser):
    """Noise; notes the tasks that it was given."""

    tasks: list
    makes_pixels = True

    def steps(self, task, state=None):
        self.tasks.append(task)
        yield from Noise().steps(task, state)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def simulated(method, world, rounds):
    simulation, weights = Simulation({"update": method}, world, Rules(1.0, 1.0)), []
    for number in range(1, rounds + 1):
        simulation.play("update", number)
        weights.append(flat(simulation.task.weights.to_torch_state_dict()))
    return simulation, weights


def test_before_the_set_it_is_fedavg(world, plain):
    _, averaged = simulated(FedAvg(4, plain()), world, 4)
    _, dynamic = simulated(DynaFed(4, plain(), 3, Noise(), 2, plain()), world, 4)
    assert [a.equal(d) for a, d in zip(averaged, dynamic, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


def test_the_set_is_made_once_of_all_averages_from_the_first_network_on(world, plain):
    noting = Noting([])
    simulation, _ = simulated(DynaFed(5, plain(), 3, noting, 2, plain()), world, 5)
    assert simulation.task.kept == {}  # no point outlives its use
    (task,) = noting.tasks
    _, averaged = simulated(FedAvg(3, plain()), world, 3)
    wanted = [flat(world.first_network().state_dict()), *averaged]
    points = [flat(point) for point in task.given]
    assert [p.equal(w) for p, w in zip(points, wanted, strict=True)] == [True] * 4
    assert task.counts.tolist() == [2, 2, 2]


def test_the_server_sees_no_real_image(world):
    task = without_images(world, 2, 7)
    real = torch.cat([data.images for (data,) in world.clients])
    assert not any((image == other).all() for image in task.real.images for other in real)
    assert task.real.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert task.real.images.equal(without_images(world, 2, 7).real.images)


def test_a_later_mean_is_trained_on_the_set(world, plain, monkeypatch):
    simulation, _ = simulated(DynaFed(3, plain(), 2, Noise(), 2, plain(3)), world, 2)
    means = []
    monkeypatch.setattr(
        "fedcl.federated.dynafed.weighted_mean",
        lambda uploads: means.append(weighted_mean(uploads)) or means[-1],
    )
    simulation.play("update", 3)
    small = condense(Noise(), without_images(world, 2, subseed(world.seed, "server distilling")))
    network = world.network_with(means[0])
    train(network, small.data, plain(3), derive(world.seed, "mending", 3))
    assert flat(simulation.task.weights.to_torch_state_dict()).equal(flat(network.state_dict()))


@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_ends_as_an_unbroken_one(world, plain, cut):
    method = DynaFed(4, plain(), 2, Noise(), 2, plain())
    unbroken, _ = simulated(method, world, 4)
    first, _ = simulated(method, world, cut)
    second = Simulation({"update": method}, world, Rules(1.0, 1.0))
    second.restore(first.state())
    for number in range(cut + 1, 5):
        second.play("update", number)
    ours, theirs = (flat(s.task.weights.to_torch_state_dict()) for s in (unbroken, second))
    assert ours.equal(theirs)


def test_its_messages_are_fedavgs(world, plain):
    def bytes_of(method):
        simulation = Simulation({"update": method}, replace(world, seed=3), Rules(1.0, 1.0))
        totals = [simulation.play("update", number).totals for number in (1, 2, 3)]
        return [(total["bytes_up"], total["bytes_down"]) for total in totals]

    dynamic = DynaFed(3, plain(), 2, Noise(), 2, plain())
    assert bytes_of(dynamic) == bytes_of(FedAvg(3, plain()))


@pytest.mark.parametrize(
    ("collecting", "ipc", "reason"),
    [(4, 1, "federated.collecting must be <= rounds=3, got 4"), (1, 0, "ipc must be")],
)
def test_bad_values_are_refused(plain, collecting, ipc, reason):
    with pytest.raises(ValueError, match=reason):
        DynaFed(3, plain(), collecting, Noise(), ipc, plain())
