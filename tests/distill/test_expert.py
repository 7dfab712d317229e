"""Experts keep a copy of their weights after every epoch, whatever else runs."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Task
from distill.expert import Experts
from distill.images import LabelledImages, Normalisation
from distill.networks import ConvNet
from distill.objectives.trajectory import ExpertDistance
from distill.pullback import weights_of
from distill.real import RealData
from distill.training import Recipe

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation(["flip"], True))
EXPERTS = Experts(ConvNet(3, 1), 2, 3, RECIPE, None)


@pytest.fixture
def task(rng) -> Task:
    images = torch.randn(12, 1, 8, 8, generator=rng)
    labels = torch.arange(3).repeat_interleave(4)
    return Task(
        LabelledImages(images, labels, 3), torch.tensor([1, 1, 1]), Normalisation([0.5], [0.25]), 0
    )


@pytest.fixture
def real(task) -> RealData:
    return RealData(task)


def test_points_of_a_trajectory_differ_from_each_other(real):
    points = EXPERTS.begin(real, {}).trajectory(0)
    assert len(points) == 4
    kernels = [point["classifier.weight"] for point in points]
    assert all((a - b).abs().max() > 1e-4 for a, b in pairwise(kernels))
    assert len({kernel.data_ptr() for kernel in kernels}) == 4


def test_an_expert_depends_on_its_number_alone(task):
    first, second = (EXPERTS.begin(RealData(task), {}) for _ in range(2))
    first.trajectory(0)
    torch.default_generator.manual_seed(5)
    torch.testing.assert_close(first.trajectory(1), second.trajectory(1), rtol=0, atol=0)


def test_whoever_asks_for_equal_experts_gets_the_same(real):
    buffer = EXPERTS.begin(real, {})
    assert replace(EXPERTS).begin(real, {}) is buffer
    assert replace(EXPERTS, count=1).begin(real, {}) is not buffer


def test_trained_experts_come_back_from_the_state(real):
    buffer = EXPERTS.begin(real, {})
    expected = buffer.trajectory(1)
    never = replace(EXPERTS, recipe=replace(RECIPE, learning_rate=1e-30))
    restored = never.begin(real, buffer.state())
    torch.testing.assert_close(restored.trajectory(1), expected, rtol=0, atol=0)


def test_a_constant_trajectory_is_refused(real):
    frozen = replace(EXPERTS, recipe=replace(RECIPE, learning_rate=1e-30))
    with pytest.raises(
        FloatingPointError, match=r"expert 0 must move a finite way .*, got .* 0\.0"
    ):
        frozen.begin(real, {}).trajectory(0)


def distance(**values) -> ExpertDistance:
    return replace(ExpertDistance(EXPERTS, 2, 0, 1, 0), **values)


def test_the_distance_is_one_at_the_start_and_zero_at_the_target(real):
    ending = distance().begin(real, {})
    trajectory, epoch = ending._drawn(5)
    _, first = ending.start(5)
    assert ending.end(5, first)[0] == pytest.approx(1.0)
    assert ending.end(5, trajectory[epoch + 2])[0] == 0.0


def test_the_gradient_of_the_distance_is_autograds(real):
    ending = distance().begin(real, {})
    trajectory, epoch = ending._drawn(5)
    first, target = trajectory[epoch], trajectory[epoch + 2]
    leaves = {k: (w * 1.1).requires_grad_() for k, w in first.items()}
    gap = torch.stack([(w - target[k]).square().sum() for k, w in leaves.items()]).sum()
    length = torch.stack([(w - target[k]).square().sum() for k, w in first.items()]).sum()
    expected = torch.autograd.grad(gap / length, list(leaves.values()))
    loss, slopes = ending.end(5, {k: w.detach() for k, w in leaves.items()})
    assert loss == pytest.approx((gap / length).item(), rel=1e-5)
    for found, wanted in zip(slopes.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-9)


def test_starts_cover_the_range_and_no_more(real):
    ending = distance().begin(real, {})
    ending.buffer.trajectory = lambda number: [number]  # which expert, without training it
    drawn = {(ending._drawn(k)[0][0], ending._drawn(k)[1]) for k in range(40)}
    assert drawn == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_the_latest_start_grows(real):
    # over 100 steps from 0 to 1: 0 + int(step / 100 * 1) is 0 until step 100
    ending = distance(growth=100).begin(real, {})
    ending.buffer.trajectory = lambda number: [number]
    assert {ending._drawn(k)[1] for k in range(100)} == {0}
    assert {ending._drawn(k)[1] for k in range(100, 140)} == {0, 1}


def test_too_few_epochs_are_refused():
    with pytest.raises(
        ValueError, match=r"experts\.epochs must be >= 5, the latest start .*, got 3"
    ):
        distance(latest=3)


def test_a_trajectory_starts_where_the_network_did(real):
    first = EXPERTS.begin(real, {}).trajectory(1)[0]
    network = real.fresh(ConvNet(3, 1), "expert", 1)
    torch.testing.assert_close(first, weights_of(network), rtol=0, atol=0)
