"""A section holds the arms of one scenario on one data set, and says which of them are rivals."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import final

from experiments.reporting.arms import Arm, group
from experiments.reporting.runs import SCENARIOS, Run

HEADLINES = {
    "distillation": "accuracy",
    "federated": "accuracy",
    "continual": "average_accuracy",
    "federated_continual": "average_accuracy",
}
EQUAL = 0.02  # by this share two arms' bytes may differ and still be one budget


@final
@dataclass(frozen=True)
class Section:
    """The arms of one scenario on one data set.

    Attributes:
        scenario: One of SCENARIOS.
        dataset: The data set's name.
        arms: Completed runs by arm, the best headline metric first.
    """

    scenario: str
    dataset: str
    arms: tuple[Arm, ...]

    @property
    def slug(self) -> str:
        """A name for anchors and files, such as "federated-digits"."""
        return slug(f"{self.scenario} {self.dataset}")

    @property
    def title(self) -> str:
        """The heading."""
        return f"{SCENARIOS[self.scenario]} on {self.dataset}"

    @property
    def headline(self) -> str:
        """The metric by which arms are sorted."""
        return HEADLINES[self.scenario]

    @property
    def rivals(self) -> tuple[tuple[Arm, ...], ...]:
        """The arms that compete with one another, bounds aside, in the order of the arms."""
        return _grouped((arm for arm in self.arms if not arm.bound), self.budget)

    @property
    def peers(self) -> tuple[tuple[Arm, ...], ...]:
        """The rivals at equal cost: of a federation, those that upload as many bytes.

        Bytes are equal within the share EQUAL, as buffers' are.
        """
        if self.scenario != "federated":
            return self.rivals
        return _grouped(self.arms, lambda arm: (self._uploaded[arm.label], *self.budget(arm)))

    def budget(self, arm: Arm) -> tuple[object, ...]:
        """Returns what arms have to share to be rivals: their conditions and what they store.

        Small sets share the bytes of their images per class and how they are scored, buffers
        their bytes within the share EQUAL: those that they were allowed or, if more, took. What
        is sent is an outcome beside the accuracy, not a budget.
        """
        if self.scenario == "distillation":
            return arm.size, *arm.conditions, *arm.evaluation
        return self._stored[arm.label], *arm.conditions

    @cached_property
    def _stored(self) -> Mapping[str, float]:
        return self._levels(self._held)

    @cached_property
    def _uploaded(self) -> Mapping[str, float]:
        return self._levels(lambda arm, seeds: arm.mean("bytes_up", seeds) or 0.0)

    def _held(self, arm: Arm, seeds: Collection[int]) -> float:
        stored = arm.mean("buffer_bytes", seeds) or 0.0
        if stored and self.scenario == "continual":  # elsewhere each client is allowed as much
            allowed = arm.mean("buffer_allowed", seeds) or arm.settings.get("buffer.bytes", 0.0)
            return max(stored, float(allowed))
        return stored

    def _levels(self, cost: Callable[[Arm, Collection[int]], float]) -> dict[str, float]:
        """Returns the arms' costs by label, those within EQUAL of a lower one as that one.

        Seeds differ in what they cost, so only those that all arms have count, if there are any.
        """
        own = {arm.label: {run.seed for run in arm.runs} for arm in self.arms}
        common = set.intersection(*own.values())
        costs = {arm.label: cost(arm, common or own[arm.label]) for arm in self.arms}
        levels, level = dict[str, float](), -1.0
        for label, bytes_ in sorted(costs.items(), key=itemgetter(1)):
            level = bytes_ if bytes_ > level * (1 + EQUAL) else level
            levels[label] = level
        return levels

    def random_rival(self, arm: Arm) -> Arm | None:
        """Returns the arm that does as ``arm`` does, at its budget, with random real images.

        Both are scored by the same evaluation, which moves accuracy as much as images do.
        """
        able = [
            other
            for other in self.arms
            if (other.family, other.method) == (arm.family, "random")
            and (other.size, other.evaluation) == (arm.size, arm.evaluation)
            and self.budget(other) == self.budget(arm)
        ]
        if arm.bound or arm in able:
            return None
        return min(able, key=lambda other: len({*other.tags()} - {*arm.tags()}), default=None)


def _grouped(
    arms: Iterable[Arm], key: Callable[[Arm], tuple[object, ...]]
) -> tuple[tuple[Arm, ...], ...]:
    """Returns the arms of equal keys together, groups and arms in the order of the arms."""
    groups: dict[tuple[object, ...], list[Arm]] = {}
    for arm in arms:
        groups.setdefault(key(arm), []).append(arm)
    return tuple(map(tuple, groups.values()))


def sections(runs: Iterable[Run]) -> tuple[Section, ...]:
    """Returns the runs by scenario and data set, scenarios in the order of SCENARIOS."""
    groups: dict[tuple[int, str], list[Run]] = {}
    for run in runs:
        key = (list(SCENARIOS).index(run.scenario), run.dataset)
        groups.setdefault(key, []).append(run)
    return tuple(_section(groups[key]) for key in sorted(groups))


def _section(runs: list[Run]) -> Section:
    scenario, dataset = runs[0].scenario, runs[0].dataset
    arms = group(runs)
    key = HEADLINES[scenario]
    ordered = sorted(arms, key=lambda arm: (-(arm.mean(key) or 0.0), arm.label))
    return Section(scenario, dataset, tuple(ordered))


def slug(text: str) -> str:
    """Returns text as a name for files and anchors.

    >>> slug("dm · ipc 10")
    'dm-ipc-10'
    """
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._") else " " for c in text.lower())
    return "-".join(kept.split())
