"""Statistics over seeds: a mean and its 95 % interval, and whether a paired difference is real.

References:
    | The Probable Error of a Mean (Student, Biometrika 1908)
    | The Design of Experiments (Fisher, 1935), section 21: the test by flipping signs
    | A Simple Sequentially Rejective Multiple Test Procedure (Holm, Scandinavian Journal of
      Statistics 1979), https://www.jstor.org/stable/4615733
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

CONFIDENCE = 0.95
MAX_FLIPPED = 20  # pairs; half a million sums


@final
@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % t-interval, mean - half_width to mean + half_width.

    Attributes:
        mean: Mean of the values.
        half_width: Half the interval's width, >= 0; None for a single value, which says
            nothing about spread.
        count: Number of values, >= 1.
    """

    mean: float
    half_width: float | None
    count: int


@final
@dataclass(frozen=True)
class PairedTest:
    """Whether one arm is ahead of another, seed by seed; p-values are two-sided.

    Attributes:
        difference: Mean of the differences with its interval.
        student: p of the paired t-test; None for a single pair, and for differences all alike
            but not 0: they have no spread to be judged by.
        flips: p of the exact sign-flip test; None above MAX_FLIPPED pairs, where flips are too
            many to count and the mean is nearly normal.
    """

    difference: Interval
    student: float | None
    flips: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    r"""Returns :math:`\bar x \pm t_{0.975,\,n-1}\, s / \sqrt n`, s with n - 1 in its denominator.

    Args:
        values: One value a seed.

    Raises:
        ValueError: If there is no value, or one is not finite.

    Source: Student, The Probable Error of a Mean (Biometrika, 1908).
    """
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"values must be one or more finite numbers, got {list(values)}")
    count = len(values)
    mean = float(np.mean(values))
    if count < 2:
        return Interval(mean, None, count)
    error = float(np.std(values, ddof=1)) / count**0.5
    return Interval(mean, _quantile(count - 1) * error, count)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Returns the mean and interval of ``first - second``, seed by seed.

    What both arms share in a seed (data split, initial network, class order) cancels,
    so that the interval is narrower than that of two independent means.

    Args:
        first: One arm's values, one a seed.
        second: The other arm's values, of the same seeds in the same order.

    Raises:
        ValueError: If the lengths differ, there is no pair, or a value is not finite.
    """
    return mean_interval(_differences(first, second))


def paired_test(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Returns whether ``first - second`` differs from 0, seed by seed.

    The t-test takes differences for normal. The sign-flip test takes them for symmetric about
    0 where the arms are alike, so that each of their 2^n signs was as likely as those seen.

    Args:
        first: One arm's values, one a seed.
        second: The other arm's values, of the same seeds in the same order.

    Raises:
        ValueError: If the lengths differ, there is no pair, or a value is not finite.
    """
    differences = _differences(first, second)
    difference = mean_interval(differences)
    return PairedTest(difference, _student(differences), _flips(differences))


def smallest_p(pairs: int) -> float:
    r"""Returns the least p that flipping the signs of n pairs can show, :math:`2 / 2^n`.

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    return float(2.0 ** (1 - pairs))


def pairs_needed(tests: int) -> int:
    """Returns how many pairs sign flips need to show anything among tests that Holm corrects.

    >>> pairs_needed(1), pairs_needed(10)
    (6, 9)

    Args:
        tests: Tests that are made together, >= 1.
    """
    return math.floor(math.log2(2 * tests / (1 - CONFIDENCE))) + 1


def holm(values: Sequence[float]) -> list[float]:
    r"""Returns p-values corrected for being several, in the order given.

    The k-th smallest of m becomes :math:`\max_{i \le k} \min(1, (m - i + 1)\, p_{(i)})`, so
    that, whatever depends on what, the chance of any false "real" stays below the level.

    Args:
        values: p-values of the tests that are made together, in [0, 1]: of all among which
            the shown ones were picked, where results did the picking.
    """
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values, dtype=np.float64)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(scaled.clip(max=1.0))
    return [float(p) for p in corrected]


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    if len(first) != len(second):
        raise ValueError(
            f"first and second must have one value for each shared seed, "
            f"got {len(first)} and {len(second)}"
        )
    return [a - b for a, b in zip(first, second, strict=True)]


def _student(differences: Sequence[float]) -> float | None:
    from scipy import stats  # a second to import, and only needed for reports

    if len(differences) < 2:
        return None
    mean, spread = abs(float(np.mean(differences))), float(np.std(differences, ddof=1))
    if not spread:
        return None if mean else 1.0
    degrees = len(differences) - 1
    return 2 * float(stats.t.sf(mean * len(differences) ** 0.5 / spread, degrees))


def _flips(differences: Sequence[float]) -> float | None:
    """The share of all signs whose sum is as far from 0; by symmetry, the first keeps its own."""
    if len(differences) > MAX_FLIPPED:
        return None
    sums = np.array(differences[:1])
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    rounding = 1e-9 * float(np.abs(differences).sum())
    return float((np.abs(sums) >= abs(sum(differences)) - rounding).mean())


def _quantile(degrees: int) -> float:
    """Returns the two-sided 95 % quantile of Student's t."""
    from scipy import stats  # a second to import, and only needed for reports

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
