"""An ensemble answers with the mean probability of its members."""

import pytest
import torch

from fedcl.federated.base import MeanAnswer
from fedcl.federated.ensemble import Ensemble
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules


class Constant(torch.nn.Module):
    def __init__(self, probabilities):
        super().__init__()
        self.logits = torch.tensor([probabilities]).log() + 3.0  # a softmax takes the 3 out

    def forward(self, images):
        return self.logits.expand(len(images), -1)


def test_the_answer_is_the_mean_of_probabilities_not_of_logits():
    # (0.9, 0.1) and (0.4, 0.6): mean (0.65, 0.35)
    answer = MeanAnswer([Constant([0.9, 0.1]), Constant([0.4, 0.6])])(torch.zeros(2, 1, 8, 8))
    assert answer.exp().flatten().tolist() == pytest.approx([0.65, 0.35] * 2)


def test_members_are_the_networks_that_clients_trained(world, plain, local_weights):
    simulation = Simulation({"update": Ensemble(plain(2))}, world, Rules(1.0, 1.0))
    simulation.play("update", 1)
    own = local_weights(FedAvg(1, plain(2)), world)
    assert len(simulation.task.members) == 3
    member = simulation.task.members[0].to_torch_state_dict()
    assert all(member[key].equal(own[key]) for key in own)


def test_the_score_is_the_members(world, plain):
    simulation = Simulation({"update": Ensemble(plain(9))}, world, Rules(1.0, 1.0))
    (data,) = world.clients[0]
    before = simulation.score(data)
    simulation.play("update", 1)
    networks = [world.network_with(member) for member in simulation.task.members]
    with torch.no_grad():
        mean = torch.stack([network(data.images).softmax(1) for network in networks]).mean(0)
    loss = -mean[torch.arange(len(data)), data.labels].log().mean().item()
    assert simulation.score(data)[1] == pytest.approx(loss, rel=1e-5)
    assert before != simulation.score(data)


def test_members_outlast_a_checkpoint(world, plain):
    first, second = (
        Simulation({"update": Ensemble(plain())}, world, Rules(1.0, 1.0)) for _ in range(2)
    )
    first.play("update", 1)
    second.restore(first.state())
    (data,) = world.clients[0]
    assert second.score(data) == first.score(data)
