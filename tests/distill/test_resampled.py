"""Networks lie between the given one and fresh ones."""

from dataclasses import replace

import pytest
import torch

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.pullback import weights_of
from distill.real import RealData
from distill.resampled import Resampled
from distill.rng import derive

NET = MLP(3, 1)
GIVEN = weights_of(fresh(NET, (1, 8, 8), 2, derive(3)))
SOURCE = Resampled(NET, 0.75, 1)


@pytest.fixture
def real() -> RealData:
    images = LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), 2)
    other = {name: w + 1 for name, w in GIVEN.items()}
    given = [other, GIVEN]
    return RealData(Task(images, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0, given))


def flat(network) -> torch.Tensor:
    return torch.cat([w.flatten() for w in weights_of(network).values()])


LAST = torch.cat([w.flatten() for w in GIVEN.values()])


def test_a_network_is_three_quarters_the_given_one(real):
    networks, fresh_ones = SOURCE.begin(real, {}), replace(SOURCE, gamma=0.0).begin(real, {})
    for index in range(3):
        wanted = 0.75 * LAST + 0.25 * flat(fresh_ones.take(index, None))
        torch.testing.assert_close(flat(networks.take(index, None)), wanted)


def test_at_gamma_one_it_is_the_given_one_and_at_zero_never(real):
    assert flat(replace(SOURCE, gamma=1.0).begin(real, {}).take(0, None)).equal(LAST)
    assert not flat(replace(SOURCE, gamma=0.0).begin(real, {}).take(0, None)).isclose(LAST).any()


def test_a_network_serves_its_steps_and_takes_no_gradient(real):
    networks = replace(SOURCE, steps=2).begin(real, {})
    taken = [networks.take(index, None) for index in range(3)]
    assert flat(taken[0]).equal(flat(taken[1]))
    assert not flat(taken[1]).equal(flat(taken[2]))
    assert not any(w.requires_grad for w in taken[0].parameters())
    assert networks.state() == {}


def test_a_task_without_a_network_is_refused(real):
    task = Task(real.data, torch.tensor([1, 1]), real.normalisation, 0)
    with pytest.raises(ValueError, match=r"^network_source=resampled must have .* got none"):
        SOURCE.begin(RealData(task), {})


def test_a_network_of_another_architecture_is_refused(real):
    with pytest.raises(ValueError, match=r"^weights given to network_source must be those of"):
        replace(SOURCE, architecture=MLP(4, 1)).begin(real, {})


@pytest.mark.parametrize(
    ("gamma", "steps", "reason"),
    [(1.5, 1, r"network_source\.gamma must be in"), (0.5, 0, r"network_source\.steps must be")],
)
def test_values_outside_their_range_are_refused(gamma, steps, reason):
    with pytest.raises(ValueError, match=reason):
        Resampled(NET, gamma, steps)
