"""Arms by the problem that they were set, so that a figure can give each problem a panel."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.reporting.arms import PROBLEM, Arm, tag


def by_conditions(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Returns the arms by the conditions in which they differ, as words that labels then lack."""
    differing = [key for key in PROBLEM if any(key in arm.keys for arm in arms)]
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        words = [tag(key, arm.settings[key]) for key in differing if key in arm.settings]
        keys = tuple(key for key in arm.keys if key not in differing)
        groups.setdefault(", ".join(words), []).append(replace(arm, keys=keys))
    return dict(sorted(groups.items()))
