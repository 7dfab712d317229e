"""Training starts around the given network, in every step elsewhere, and ends as before."""

from dataclasses import replace

import pytest
import torch

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.objectives.real_loss import RealLoss
from distill.objectives.soft_reset import SoftReset
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import derive

NET = MLP(3, 1)
GIVEN = weights_of(fresh(NET, (1, 8, 8), 2, derive(3)))
RESET = SoftReset(RealLoss(NET, 4), 0.1)


@pytest.fixture
def task(rng) -> Task:
    images = LabelledImages(torch.randn(6, 1, 8, 8, generator=rng), torch.arange(6) % 2, 2)
    other = {name: w + 1 for name, w in GIVEN.items()}
    return Task(images, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0, [other, GIVEN])


def gap(ending, index: int) -> torch.Tensor:
    _, start = ending.start(index)
    return torch.cat([(w - GIVEN[name]).flatten() for name, w in start.items()])


def test_starts_are_normal_around_the_last_given_network(task):
    # 203 weights in 50 starts: 10,150 draws of deviation 0.1, whose own is known to 0.7 %.
    ending = RESET.begin(RealData(task), {})
    gaps = torch.stack([gap(ending, index) for index in range(50)])
    assert gaps.shape == (50, 203)
    assert gaps.std().item() == pytest.approx(0.1, rel=0.04)
    assert gaps.mean().abs() < 0.005
    assert torch.corrcoef(gaps).fill_diagonal_(0).abs().max() < 0.4  # no two starts alike


def test_a_start_depends_on_seed_and_step_alone(task):
    first, again = (RESET.begin(RealData(task), {}) for _ in range(2))
    other = RESET.begin(RealData(replace(task, seed=1)), {})
    first.start(0)
    assert gap(first, 4).equal(gap(again, 4))
    assert not gap(first, 4).equal(gap(other, 4))


def test_without_noise_every_start_is_the_given_network(task):
    ending = replace(RESET, sigma=0.0).begin(RealData(task), {})
    assert not gap(ending, 0).any()
    assert not gap(ending, 1).any()


def test_the_end_is_the_other_terminals(task):
    ours, theirs = (terminal.begin(RealData(task), {}) for terminal in (RESET, RESET.terminal))
    ours.start(5)
    theirs.start(5)
    (loss, slopes), (wanted, expected) = ours.end(5, GIVEN), theirs.end(5, GIVEN)
    assert loss == wanted
    assert all(slopes[name].equal(slope) for name, slope in expected.items())


def test_a_task_without_a_network_is_refused(task):
    with pytest.raises(ValueError, match=r"^objective=soft_reset must have a network .* got none"):
        RESET.begin(RealData(replace(task, given=[])), {})


def test_a_network_of_another_architecture_is_refused(task):
    given = [weights_of(fresh(MLP(4, 1), (1, 8, 8), 2, derive(3)))]
    with pytest.raises(ValueError, match=r"^weights given to objective\.terminal\.terminal must"):
        RESET.begin(RealData(replace(task, given=given)), {})


def test_a_negative_deviation_is_refused():
    with pytest.raises(ValueError, match=r"^objective\.terminal\.sigma must be >= 0, got -1"):
        replace(RESET, sigma=-1)
