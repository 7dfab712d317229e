"""Arms by the problem that they were set, so that a figure can give each problem a panel."""

from collections.abc import Sequence
from dataclasses import replace

from experiments.reporting.arms import CONDITIONS, Arm, words_of


def by_conditions(arms: Sequence[Arm]) -> dict[str, list[Arm]]:
    """Returns the arms by the conditions in which they differ, as words that labels then lack."""
    told = zip(*(words_of(group, arms) for group in CONDITIONS), strict=True)
    groups: dict[str, list[Arm]] = {}
    for arm, differing in zip(arms, told, strict=True):
        title = ", ".join(word for words in differing for word in words.values())
        own = {k: word for k, word in arm.words.items() if k.partition(".")[0] not in CONDITIONS}
        groups.setdefault(title, []).append(replace(arm, words=own))
    return dict(sorted(groups.items()))
