"""Intervals over seeds agree with tables of Student's t."""

import pytest

from fedcl.statistics import Interval, mean_interval, paired_difference


def test_three_values_have_the_half_width_of_the_table():
    # Mean 2, deviations -1, 0, 1: s^2 = 2 / 2 = 1; t(0.975, 2) = 4.30265; 4.30265 / sqrt(3).
    interval = mean_interval([1.0, 2.0, 3.0])
    assert (interval.mean, interval.count) == (2.0, 3)
    assert interval.half_width == pytest.approx(4.30265 / 3**0.5, rel=1e-5)


def test_two_values_have_the_half_width_of_the_table():
    # s^2 = 2 * 0.25 / 1 = 0.5, s / sqrt(2) = 0.5; t(0.975, 1) = 12.7062.
    assert mean_interval([0.0, 1.0]).half_width == pytest.approx(12.7062 / 2, rel=1e-5)


def test_many_values_approach_the_normal_quantile():
    # 2 * 5,000 values -1 and 1: s / sqrt(n) = 1 / 100 and t is nearly 1.960.
    assert mean_interval([-1.0, 1.0] * 5_000).half_width == pytest.approx(0.0196, rel=1e-3)


def test_a_single_value_has_no_half_width():
    assert mean_interval([0.7]) == Interval(0.7, None, 1)


def test_equal_values_have_no_width():
    assert mean_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.0, 3)


def test_interval_ignores_order_and_moves_with_the_values():
    first, turned, moved = (mean_interval(v) for v in ([1, 2, 4], [4, 1, 2], [11, 12, 14]))
    # Summed in another order: equal but for the last bits.
    assert (turned.mean, turned.half_width) == pytest.approx((first.mean, first.half_width))
    assert moved.mean == pytest.approx(first.mean + 10)
    assert moved.half_width == pytest.approx(first.half_width)


def test_paired_difference_is_the_interval_of_differences_seed_by_seed():
    # Differences 1, 2, 3, whatever the seeds' own levels are.
    difference = paired_difference([11.0, 52.0, 93.0], [10.0, 50.0, 90.0])
    assert difference == mean_interval([1.0, 2.0, 3.0])


def test_paired_difference_turns_its_sign_with_its_arms():
    ahead, behind = paired_difference([3, 5], [1, 2]), paired_difference([1, 2], [3, 5])
    assert (ahead.mean, behind.mean) == (2.5, -2.5)
    assert ahead.half_width == behind.half_width


@pytest.mark.parametrize("values", [[], [0.5, float("nan")], [float("inf")]])
def test_values_must_be_finite_and_there(values):
    with pytest.raises(ValueError, match="values must be one or more finite numbers, got"):
        mean_interval(values)


def test_unpaired_arms_are_refused():
    with pytest.raises(ValueError, match="one value for each shared seed, got 3 and 2"):
        paired_difference([1, 2, 3], [1, 2])
