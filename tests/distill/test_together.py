"""Sets that are distilled together are those that would be distilled alone, in fewer passes."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import pytest
import torch
from torch import Tensor

from distill import together
from distill.around_given import AroundGiven
from distill.augment import Augmentation
from distill.condenser import Condenser, Task, condense
from distill.coresets import KMeans, Random
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels
from distill.network_sources import Fresh, TrainedOnSynthetic
from distill.networks import ConvNet, Network, fresh
from distill.objectives.attention import AttentionMatching
from distill.objectives.characteristic import CharacteristicFunction
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching, Separable, Statistic
from distill.objectives.mmd import MeanDiscrepancy
from distill.optimisers import SGD, Adam
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.pullback import weights_of
from distill.real import ClassBatch
from distill.rng import derive
from distill.together import condense_together, stacks
from distill.training import Recipe

DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
NET = ConvNet(4, 2)
STATISTICS: dict[str, Statistic] = {
    "distribution": DistributionMatching(),
    "logits": DistributionMatching(logits=True),
    "attention": AttentionMatching(4.0, 0.3),
    "mmd": MeanDiscrepancy(1.0),
}


def method(statistic: Statistic, **changes: Any) -> Distillation:
    """A distillation whose objective has other fields."""
    objective = replace(Matching(statistic, Fresh(NET, 2), DSA, 3, None), **changes)
    pixels, start = Parameterisation(Pixels(clip=True)), KMeans()
    return Distillation(objective, pixels, HardLabels(), start, SGD(1.0, 0.5), 5)


DM = method(DistributionMatching())


def task(per_class: Sequence[int], counts: Sequence[int], seed: int, **changes: Any) -> Task:
    labels = torch.arange(len(per_class)).repeat_interleave(torch.tensor(per_class))
    images = torch.randn(len(labels), 1, 8, 8, generator=derive(seed, "images"))
    real = LabelledImages(images, labels, len(per_class))
    made = Task(real, torch.tensor(counts), Normalisation([0.5], [0.25]), seed, networks=7)
    return replace(made, **changes)


def three() -> list[Task]:
    """Clients of other classes, of more and of fewer images than a step draws."""
    return [
        task([5, 0, 2], [2, 0, 1], 1),
        task([0, 1, 0], [0, 1, 0], 2),
        task([4, 3, 6], [1, 2, 3], 3),
    ]


@final
@dataclass(frozen=True)
class Seen(Separable):
    """Distribution matching that notes the classes it is shown."""

    classes: list[list[int]] = field(default_factory=list)

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        self.classes.append(real.labels.tolist())
        return DistributionMatching().losses(network, real, synthetic)


@final
@dataclass(frozen=True)
class Told(Separable):
    """Losses as they are told, a row a step."""

    rows: list[list[float]]

    def losses(self, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
        return torch.tensor(self.rows.pop(0)) + 0 * synthetic.images.sum()


HOW = {
    **{name: method(statistic) for name, statistic in STATISTICS.items()},
    **{f"few, {name}": method(s, synthetic_batch=1) for name, s in STATISTICS.items()},
    "Adam": replace(DM, optimiser=Adam(0.1)),
}


@pytest.mark.parametrize("name", HOW)
def test_each_set_is_what_it_would_be_alone(name):
    for each, ours in zip(three(), condense_together(HOW[name], three()), strict=True):
        alone = condense(HOW[name], each)
        torch.testing.assert_close(ours.data.images, alone.data.images, rtol=0, atol=1e-5)
        assert ours.data.labels.equal(alone.data.labels)
        assert (ours.origin, ours.data.num_classes) == (alone.origin, alone.data.num_classes)


def test_given_networks_are_seen_by_all():
    around = method(DistributionMatching(), networks=AroundGiven(NET, None, 1.0, 1))
    weights = [weights_of(fresh(NET, (1, 8, 8), 3, derive(0, str(k)))) for k in range(2)]
    tasks = [replace(each, given=[weights[0]]) for each in three()]
    for each, ours in zip(tasks, condense_together(around, tasks), strict=True):
        torch.testing.assert_close(ours.data.images, condense(around, each).data.images)
    other = [*tasks[:2], replace(tasks[2], given=[weights[1]])]
    assert [len(stack) for stack in stacks(around, other)] == [2, 1]


def test_a_step_shows_one_network_the_classes_of_all():
    seen = Seen()
    condense_together(method(seen), three())
    assert seen.classes == [[0, 2, 1, 0, 1, 2]] * 5


def test_a_stack_shows_at_most_so_many_images(monkeypatch):
    # A step shows 3 + 2 real and 2 + 1 synthetic images of the first, 1 + 1, 9 + 6: 8, 2, 15.
    for most, sizes in ((9, [1, 1, 1]), (10, [2, 1]), (24, [2, 1]), (25, [3])):
        monkeypatch.setattr(together, "MOST", most)
        assert [len(stack) for stack in stacks(DM, three())] == sizes
        assert [t.seed for stack in stacks(DM, three()) for t in stack] == [1, 2, 3]


def of_other_networks(number: int | None) -> list[Task]:
    first, *others = three()
    return [first, *(replace(each, networks=number) for each in others)]


def test_tasks_of_other_networks_are_not_stacked():
    assert [len(stack) for stack in stacks(DM, of_other_networks(8))] == [1, 2]
    assert [len(stack) for stack in stacks(DM, of_other_networks(None))] == [1, 1, 1]
    assert list(stacks(DM, [])) == []


RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
ALONE: dict[str, Condenser] = {
    "a rival": Random(),
    "a statistic that draws": method(CharacteristicFunction(8, 0.5)),
    "networks that train on the set": method(
        DistributionMatching(), networks=TrainedOnSynthetic(NET, 2, RECIPE)
    ),
    "a norm over all numbers": replace(DM, clip=1.0),
    "decoded images": replace(
        DM, parameterisation=Parameterisation(Pixels(clip=True), [Upsample(2)])
    ),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_does_not_separate_is_made_alone(name):
    tasks = [task([4, 4], [4, 4], seed) for seed in (1, 2)]
    assert [len(stack) for stack in stacks(ALONE[name], tasks)] == [1, 1]
    for each, ours in zip(tasks, condense_together(ALONE[name], tasks), strict=True):
        assert ours.data.images.equal(condense(ALONE[name], each).data.images)


def test_a_task_that_diverges_is_not_hidden_by_the_others():
    # The second task's loss grows from 2 to 2,001, beyond 1,000 times 2; the sum only from 5,002.
    tasks = [task([2, 2], [1, 1], 1), task([2, 2], [1, 0], 2)]
    fine = [[5000.0, 0.0, 2.0], [0.0, 5000.0, 1999.0]]
    condense_together(replace(method(Told(fine)), iterations=2), tasks)
    astray = [[5000.0, 0.0, 2.0], [0.0, 5000.0, 2001.0]]
    with pytest.raises(FloatingPointError, match="must stay within 1000 times"):
        condense_together(replace(method(Told(astray)), iterations=2), tasks)
