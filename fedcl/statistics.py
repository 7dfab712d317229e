"""Statistics over seeds: a mean and its 95 % interval, paired where arms share seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

CONFIDENCE = 0.95


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
    if len(first) != len(second):
        raise ValueError(
            f"first and second must have one value for each shared seed, "
            f"got {len(first)} and {len(second)}"
        )
    return mean_interval([a - b for a, b in zip(first, second, strict=True)])


def _quantile(degrees: int) -> float:
    """Returns the two-sided 95 % quantile of Student's t."""
    from scipy import stats  # a second to import, and only needed for reports

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))
