"""Snapshots lie on the line between an expert's start and its end, or on its trajectory."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.condenser import Task
from distill.expert import Experts
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from distill.real import RealData
from distill.snapshots import Snapshots
from distill.training import Recipe

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], False))
EXPERTS = Experts(MLP(3, 1), 2, 2, RECIPE, None)
BETWEEN, POINTS = Snapshots(EXPERTS, 2, True), Snapshots(EXPERTS, 1, False)


@pytest.fixture
def real(rng) -> RealData:
    images, labels = torch.randn(8, 1, 8, 8, generator=rng), torch.arange(8) % 2
    task = Task(
        LabelledImages(images, labels, 2), torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0
    )
    return RealData(task)


def filled(real: RealData, *trajectories: list[float]) -> None:
    """Puts experts in place whose every weight is one number, point by point."""
    buffer = replace(EXPERTS).begin(real, {})
    shapes = {name: p.shape for name, p in buffer.network.named_parameters()}
    buffer.trained |= {
        number: [{name: torch.full(s, value) for name, s in shapes.items()} for value in points]
        for number, points in enumerate(trajectories)
    }


def flat(network) -> Tensor:
    return torch.cat([p.flatten() for p in network.parameters()]).clone()


def test_a_network_lies_between_start_and_end_at_one_place_for_all_weights(real):
    # Expert 0 goes from 0 by 50 to 1, expert 1 from 10 by -50 to 12: the middle doesn't count.
    filled(real, [0.0, 50.0, 1.0], [10.0, -50.0, 12.0])
    networks, places = BETWEEN.begin(real, {}), []
    for index in range(400):
        weights = flat(networks.take(2 * index, None))
        assert torch.equal(weights, weights[:1].expand(len(weights)))
        places.append(weights[0].item())
    first = torch.tensor([p for p in places if p < 5])
    second = (torch.tensor([p for p in places if p > 5]) - 10) / 2
    assert 150 < len(first) < 250
    for u in (first, second):  # uniform: mean 1/2, standard deviation sqrt(1/12) = .289
        assert ((u >= 0) & (u <= 1)).all()
        assert u.mean().item() == pytest.approx(0.5, abs=0.07)
        assert u.std().item() == pytest.approx(0.289, abs=0.04)


def test_points_of_a_trajectory_are_taken_as_they_are(real):
    filled(real, [0.0, 1.0, 2.0], [3.0, 4.0, 5.0])
    networks = POINTS.begin(real, {})
    taken = {flat(networks.take(index, None))[0].item() for index in range(80)}
    assert taken == {0.0, 1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_network_serves_its_steps(real):
    networks = replace(BETWEEN, steps=3).begin(real, {})
    taken = [flat(networks.take(index, None)) for index in range(6)]
    assert torch.equal(taken[0], taken[2])
    assert torch.equal(taken[3], taken[5])
    assert not torch.equal(taken[2], taken[3])


def test_experts_stay_as_they_were_trained(real):
    networks = BETWEEN.begin(real, {})
    ends = [flat_of(networks.buffer.trajectory(k)[-1]) for k in range(2)]
    for index in range(20):
        networks.take(index, None)
    assert all(
        torch.equal(e, flat_of(networks.buffer.trajectory(k)[-1])) for k, e in enumerate(ends)
    )


def flat_of(weights: dict[str, Tensor]) -> Tensor:
    return torch.cat([w.flatten() for w in weights.values()]).clone()


def test_no_steps_are_refused():
    with pytest.raises(ValueError, match=r"^network_source\.steps must be >= 1, got 0$"):
        replace(BETWEEN, steps=0)
