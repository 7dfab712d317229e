"""Intervals agree with tables of Student's t, and tests with arithmetic and with SciPy."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fedcl.statistics import (
    MAX_FLIPPED,
    Interval,
    holm,
    mean_interval,
    paired_difference,
    paired_test,
    pairs_needed,
    smallest_p,
)


@pytest.fixture
def rng_numpy():
    return np.random.default_rng(0)


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


def test_flips_count_the_signs_that_are_as_far_from_zero():
    # Differences 1, 2, -1, sum 2. Sums of all signs: 4, 2 twice (the one seen and its double),
    # 0 and their negatives; 6 of 8 are at least 2 from 0.
    assert paired_test([3, 5, 1], [2, 3, 2]).flips == 6 / 8


def test_flips_agree_with_a_loop_over_all_signs(rng_numpy):
    first, second = rng_numpy.normal(size=(2, 7))
    seen = abs((first - second).sum())
    far = [
        abs((signs * (first - second)).sum()) >= seen - 1e-9
        for signs in itertools.product([-1, 1], repeat=7)
    ]
    assert paired_test(first, second).flips == pytest.approx(np.mean(far))


def test_the_tests_agree_with_scipy(rng_numpy):
    first, second = rng_numpy.normal([0.5], size=(8,)), rng_numpy.normal(size=8)
    test = paired_test(first, second)
    assert test.difference == paired_difference(first, second)
    assert test.student == pytest.approx(stats.ttest_rel(first, second).pvalue)
    exact = stats.permutation_test(
        (first, second), lambda a, b: (a - b).mean(), permutation_type="samples"
    )
    assert test.flips == pytest.approx(exact.pvalue)


def test_a_t_of_the_table_has_the_p_of_the_table():
    # Differences 1, 2, 3: t = 2 / (1 / sqrt 3) = 3.4641 on two degrees of freedom, where
    # p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14).
    assert paired_test([1, 2, 3], [0, 0, 0]).student == pytest.approx(1 - (12 / 14) ** 0.5)


@pytest.mark.parametrize("pairs", [1, 5, 6])
def test_all_differences_of_one_sign_show_the_smallest_p(pairs):
    # Only the signs seen and all their opposites are as far from zero.
    ahead = [0.1 * (i + 1) for i in range(pairs)]
    assert paired_test(ahead, [0.0] * pairs).flips == smallest_p(pairs) == 2 / 2**pairs


def test_six_pairs_are_the_fewest_that_can_show_something():
    assert smallest_p(5) > 0.05 > smallest_p(6)
    for tests in (1, 2, 12, 45):
        needed = pairs_needed(tests)
        assert tests * smallest_p(needed) < 0.05 <= tests * smallest_p(needed - 1)


def test_arms_that_are_alike_differ_by_chance_alone():
    test = paired_test([0.5] * 4, [0.5] * 4)
    assert (test.student, test.flips) == (1.0, 1.0)


def test_equal_differences_have_no_spread_that_a_t_test_could_judge_by():
    test = paired_test([1.5] * 4, [1.0] * 4)
    assert (test.student, test.flips) == (None, 2 / 16)


def test_swapped_arms_have_equal_p(rng_numpy):
    first, second = rng_numpy.normal(size=(2, 6))
    one, other = paired_test(first, second), paired_test(second, first)
    assert (one.student, one.flips) == pytest.approx((other.student, other.flips))


def test_rounding_does_not_tell_equal_sums_apart():
    # As 1, 2, -1 above, but 0.1 + 0.2 - 0.1 is a little more than 0.2 - 0.1 + 0.1.
    assert paired_test([0.1, 0.2, -0.1], [0, 0, 0]).flips == 6 / 8


def test_a_single_pair_has_no_t_and_many_pairs_no_flips(rng_numpy):
    alone = paired_test([0.7], [0.5])
    assert (alone.student, alone.flips) == (None, 1.0)
    many = paired_test(rng_numpy.normal(size=MAX_FLIPPED + 1), [0.0] * (MAX_FLIPPED + 1))
    assert many.flips is None
    assert many.student is not None


def test_holm_scales_the_smallest_most_and_keeps_the_order():
    # Sorted: 0.01 * 4, 0.02 * 3, 0.04 * 2 = 0.08, 0.06 * 1, which is not below the one before.
    assert holm([0.04, 0.01, 0.06, 0.02]) == pytest.approx([0.08, 0.04, 0.08, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []
