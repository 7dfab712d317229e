"""FedDM's sets stand for a client around the global network; the server stays near it."""

from dataclasses import dataclass, replace

import pytest
import torch

from distill.condenser import Condenser, Step
from distill.coresets import Random
from distill.rng import derive, subseed
from distill.synthetic import SyntheticSet
from distill.training import train
from fedcl.federated.feddm import FedDM
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules


@dataclass(frozen=True)
class Noting(Condenser):
    """Random real images; notes the tasks that it was given."""

    tasks: list
    makes_pixels = True

    def steps(self, task, state=None):
        self.tasks.append(task)
        yield from Random().steps(task, state)


def flat(tensors):
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def test_a_client_is_given_the_global_network_of_the_round(world, plain):
    noting = Noting([])
    simulation = Simulation({"update": FedDM(2, noting, 1, plain(), None)}, world, Rules(1.0, 1.0))
    first = flat(world.first_network().state_dict())
    simulation.play("update", 1)
    second = flat(simulation.task.weights.to_torch_state_dict())
    simulation.play("update", 2)
    given = [flat(task.given[-1]) for task in noting.tasks]
    assert all(weights.equal(first) for weights in given[:3])
    assert all(weights.equal(second) for weights in given[3:])
    assert not first.equal(second)


def test_sets_differ_from_round_to_round_and_client_to_client(world, plain):
    noting = Noting([])
    simulation = Simulation({"update": FedDM(2, noting, 1, plain(), None)}, world, Rules(1.0, 1.0))
    simulation.play("update", 1)
    simulation.play("update", 2)
    wanted = [subseed(world.seed, "client", k, "round", r) for r in (1, 2) for k in range(3)]
    assert [task.seed for task in noting.tasks] == wanted
    assert len(set(wanted)) == 6


def test_the_server_trains_on_the_union_from_the_last_weights(world, plain):
    simulation = Simulation(
        {"update": FedDM(1, Random(), 2, plain(3), None)}, world, Rules(1.0, 1.0)
    )
    simulation.play("update", 1)
    memory, network = simulation.task.memory, world.first_network()
    assert memory.data.counts.tolist() == [6, 6, 6]  # two of each class from three clients
    train(network, memory.data, plain(3), derive(world.seed, "server training", 1))
    assert flat(simulation.task.weights.to_torch_state_dict()).equal(flat(network.state_dict()))


@pytest.mark.parametrize("radius", [0.05, 0.3])
def test_the_server_stops_at_the_first_step_beyond_the_radius(world, plain, radius):
    def way(radius, epochs):
        method = FedDM(1, Random(), 2, plain(epochs, batch=18), radius)
        simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
        simulation.play("update", 1)
        start = flat(world.first_network().state_dict())
        return (flat(simulation.task.weights.to_torch_state_dict()) - start).norm().item()

    ways = [way(None, epochs) for epochs in range(1, 9)]  # one step an epoch
    beyond = next(way for way in ways if way > radius)
    assert way(radius, 8) == pytest.approx(beyond, rel=1e-5)
    assert beyond < ways[-1]


def test_a_set_of_more_images_than_asked_is_refused(world, plain):
    @dataclass(frozen=True)
    class Greedy(Condenser):
        makes_pixels = True

        def steps(self, task, state=None):
            real = task.real.rows(task.real.labels.argsort(stable=True))
            small = SyntheticSet(real, task.normalisation, "real")
            yield Step(1, 1, None, dict, lambda: small)

    simulation = Simulation(
        {"update": FedDM(1, Greedy(), 1, plain(), None)}, world, Rules(1.0, 0.0)
    )
    with pytest.raises(RuntimeError, match=r"counts must be in \[0, 1\], got 4 to 4"):
        simulation.play("update", 1)


def test_equal_seeds_give_equal_weights(world, plain):
    def weights(seed):
        method = FedDM(2, Random(), 1, plain(), None)
        simulation = Simulation({"update": method}, replace(world, seed=seed), Rules(1.0, 1.0))
        simulation.play("update", 1)
        simulation.play("update", 2)
        return flat(simulation.task.weights.to_torch_state_dict())

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


@pytest.mark.parametrize(("ipc", "radius", "name"), [(0, 5.0, "ipc"), (1, 0.0, "federated.radius")])
def test_bad_values_are_refused(plain, ipc, radius, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        FedDM(1, Random(), ipc, plain(), radius)
