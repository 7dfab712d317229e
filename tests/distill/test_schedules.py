"""Schedules give the factors of their formulas."""

import math

import pytest

from distill.schedules import Cosine, Schedule, Steps


def test_the_step_size_falls_after_each_point():
    # gamma^0, gamma^1, gamma^2 on either side of 1/2 and 3/4
    steps = Steps([0.5, 0.75], 0.2)
    factors = [steps.factor(share) for share in (0.01, 0.49, 0.51, 0.74, 0.76, 0.99)]
    assert factors == pytest.approx([1, 1, 0.2, 0.2, 0.04, 0.04])


def test_no_point_leaves_the_step_size():
    assert Steps([], 0.2).factor(0.9) == 1


def test_a_cosine_falls_from_one_to_zero():
    # (1 + cos 0) / 2, (1 + cos pi/3) / 2, (1 + cos pi/2) / 2, (1 + cos 2pi/3) / 2
    factors = [Cosine(0.0).factor(share) for share in (0.0, 1 / 3, 0.5, 2 / 3, 1.0)]
    assert factors == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_a_cosine_begins_where_the_warm_up_ends():
    # up along share / .6, then half a cosine over the other .4: at .8 half of it is done
    cosine = Cosine(0.6)
    factors = [cosine.factor(share) for share in (0.15, 0.3, 0.6, 0.7, 0.8, 1.0)]
    expected = [0.25, 0.5, 1, (1 + math.cos(math.pi / 4)) / 2, 0.5, 0]
    assert factors == pytest.approx(expected)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_points_outside_training_are_refused(share):
    with pytest.raises(ValueError, match=r"^schedule\.after must be in \[0, 1\), got "):
        Steps([0.5, share], 0.2)
    with pytest.raises(ValueError, match=r"^schedule\.warm_up must be in \[0, 1\), got "):
        Cosine(share)


@pytest.mark.parametrize("after", [0.5, None], ids=repr)
def test_points_that_are_no_list_are_refused(after):
    with pytest.raises(TypeError, match=rf"^schedule\.after must be a list, got {after}$"):
        Steps(after, 0.2)


def test_a_factor_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"^schedule\.by must be > 0, got 0\.0$"):
        Steps([0.5], 0.0)


def test_verbs_cannot_be_made_without_what_they_mean():
    with pytest.raises(TypeError, match="abstract"):
        Schedule()
