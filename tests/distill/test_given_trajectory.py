"""A given trajectory asks for its later points, as shares of the way to their mean."""

from dataclasses import dataclass
from typing import final

import pytest
import torch
from torch import nn

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, Architecture, ImageShape
from distill.objectives.given_trajectory import GivenTrajectory
from distill.real import RealData


@final
@dataclass(frozen=True)
class Two(Architecture):
    """Networks of two weights, so that distances can be worked out by hand."""

    def build(self, image_shape: ImageShape, num_classes: int) -> nn.Module:
        network = nn.Module()
        network.w = nn.Parameter(torch.zeros(2))
        return network


NET = Two()


def real(points: list[float], seed: int = 0) -> RealData:
    images = LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 1]), 2)
    given = [{"w": torch.tensor([value, 0.0])} for value in points]
    return RealData(Task(images, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), seed, given))


def test_the_loss_is_the_share_of_the_way_that_is_left():
    # from 0 to the mean of 3 and 5, which is 4; ending at (3, 2): (1 + 4) / 16, slope 2 gap / 16
    ending = GivenTrajectory(NET, 2).begin(real([0.0, 3.0, 5.0]), {})
    _, start = ending.start(0)
    assert start["w"].tolist() == [0.0, 0.0]
    loss, slope = ending.end(0, {"w": torch.tensor([3.0, 2.0])})
    assert loss == pytest.approx(5 / 16)
    assert slope["w"].tolist() == pytest.approx([-2 / 16, 4 / 16])


def test_every_start_that_leaves_room_is_drawn_and_fits_its_end():
    ending = GivenTrajectory(NET, 2).begin(real([0.0, 1.0, 4.0, 9.0, 16.0]), {})
    targets = {0.0: 2.5, 1.0: 6.5, 4.0: 12.5}
    seen = set()
    for index in range(40):
        start = ending.start(index)[1]["w"][0].item()
        target = torch.tensor([targets[start], 0.0])
        assert ending.end(index, {"w": target})[0] == 0
        assert ending.end(index, {"w": torch.tensor([start, 0.0])})[0] == pytest.approx(1)
        seen.add(start)
    assert seen == set(targets)


def test_draws_depend_on_seed_and_step_alone():
    first, again, other = (
        GivenTrajectory(NET, 1).begin(real([0.0, 1.0, 2.0, 3.0], seed), {}) for seed in (0, 0, 1)
    )

    def starts(ending):
        return [ending.start(index)[1]["w"][0].item() for index in range(12)]

    assert starts(first) == starts(again) != starts(other)


def test_a_trajectory_that_is_too_short_is_refused():
    with pytest.raises(ValueError, match=r"span must be < 2, the points .* got 2"):
        GivenTrajectory(NET, 2).begin(real([0.0, 1.0]), {})


def test_points_of_another_architecture_are_refused():
    with pytest.raises(ValueError, match=r"^weights given to objective\.terminal must be those of"):
        GivenTrajectory(MLP(3, 1), 1).begin(real([0.0, 1.0]), {})


def test_a_trajectory_that_stands_still_is_refused_where_it_is_met():
    ending = GivenTrajectory(NET, 2).begin(real([3.0, 3.0, 3.0]), {})
    with pytest.raises(FloatingPointError, match=r"^the trajectory must move .* got a distance"):
        ending.end(0, {"w": torch.tensor([3.0, 2.0])})
