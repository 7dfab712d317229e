"""A memory is filled at an experience's end, or as its images stream past."""

import copy
from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Condenser
from distill.coresets import KMeans, Random
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from distill.training import Recipe
from fedcl.continual.base import Replayed
from fedcl.continual.er_ace import ERACE
from fedcl.continual.gdumb import GDumb
from fedcl.continual.keeper import Keeper
from fedcl.continual.learner import Learner, Setting
from fedcl.continual.replay import Replay
from fedcl.memory import Budget, Memory
from fedcl.stores.uint8 import Uint8
from fedcl.streams.base import by_classes

NORMALISATION = Normalisation([0.5], [0.25])
BUDGET = Budget(8, None, "fixed", Uint8(), staged=6)
RECIPE = Recipe(
    epochs=1,
    batch=4,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)


def images(count: int, classes: int = 4) -> LabelledImages:
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return LabelledImages(NORMALISATION(pixels), torch.arange(count) % classes, 4)


def learner(method, recipe: Recipe = RECIPE) -> Learner:
    experiences = by_classes(images(40), images(16), [[0, 1], [2, 3]])
    return Learner(method, Setting(experiences, False, NORMALISATION, MLP(8, 1), recipe, 0))


def keeper(budget: Budget = BUDGET) -> Keeper:
    memory = Memory.empty(budget, (1, 8, 8), 4, NORMALISATION)
    return Keeper(Replayed(Random(), budget), memory, 0, torch.device("cpu"))


def test_what_is_held_is_told_when_it_changes_and_not_before():
    kept, data = keeper(), images(12)
    show = kept.watch(0)
    # Six wait: the first four do, the next four fill the stage, the last four fill it again.
    answers = [show(data.rows(rows)) for rows in torch.arange(12).split(4)]
    assert [None if held is None else len(held) for held in answers] == [None, 6, 8]
    assert len(kept.memory.stage) == 0


def test_what_still_waits_is_learnt_at_the_end():
    kept = keeper()
    kept.watch(0)(images(4))
    assert (len(kept.memory), len(kept.memory.stage)) == (0, 4)
    kept.finish(0)
    assert (len(kept.memory), len(kept.memory.stage)) == (4, 0)
    assert kept.seconds > 0


def test_without_a_stage_an_experience_is_learnt_at_once_and_its_end_changes_nothing():
    kept = keeper(replace(BUDGET, staged=None))
    kept.learn(0, images(12))
    before = kept.memory
    kept.finish(0)
    assert len(before) == 8
    assert kept.memory.data().images.equal(before.data().images)


def test_a_stream_fills_its_memory_while_it_is_learnt():
    taught = learner(Replay(Random(), BUDGET))
    taught.learn(0)
    # Twenty images in batches of four; the memory learns after 6, 12, 18 and at the end. Batches
    # bring images of it from the third on.
    assert taught.memory.seen.tolist() == [10, 10, 0, 0]
    assert taught.memory.data().counts.tolist() == [2, 2, 0, 0]
    assert taught.memory.peak == 4 * 65 + 6 * 65


def test_images_replayed_from_a_filling_memory_are_counted():
    # 20 of the stream, and 4 beside each of the last three batches.
    assert learner(Replay(Random(), BUDGET)).learn(0).samples == 20 + 12


@final
@dataclass(frozen=True)
class Asking(Condenser):
    """Random images, taken by a method that notes which networks it is given."""

    given: list = field(default_factory=list)
    makes_pixels: bool = True

    def steps(self, task, state=None):
        self.given.append([copy.deepcopy(dict(weights)) for weights in task.given])
        yield from Random().steps(task, state)


def test_methods_that_ask_for_networks_are_given_the_learner_s_before_and_after():
    method = Asking()
    taught = learner(Replay(method, replace(BUDGET, staged=None)))
    for index in range(2):
        first = copy.deepcopy(taught.network.state_dict())
        taught.learn(index)
        before, after = method.given[index]
        for name, values in taught.network.state_dict().items():
            assert before[name].equal(first[name])
            assert after[name].equal(values)
        assert not all(before[name].equal(after[name]) for name in first)


def test_a_memory_that_comes_before_the_network_is_given_it_as_it_was_left():
    method = Asking()
    taught = learner(ERACE(method, replace(BUDGET, staged=None)))
    for index in range(2):
        before = {name: values.clone() for name, values in taught.network.state_dict().items()}
        taught.learn(index)
        (weights,) = method.given[index]
        assert all(weights[name].equal(values) for name, values in before.items())
        assert not all(weights[name].equal(w) for name, w in taught.network.state_dict().items())


def test_a_stage_hands_on_the_network_as_it_is_when_the_memory_learns():
    method = Asking()
    taught, passed = learner(Replay(method, BUDGET)), []
    taught.network.register_forward_pre_hook(
        lambda network, _given: passed.append(copy.deepcopy(network.state_dict()))
    )
    taught.learn(0)
    # It learns after steps 2, 3 and 5 of 5, and what is left at the end; its method is asked for
    # two small sets where it holds some already.
    given = [weights for _, weights in method.given]
    assert all(before[n].equal(w) for before, _ in method.given for n, w in passed[0].items())
    wanted = [passed[2], passed[3], taught.network.state_dict()]
    for name in given[0]:
        assert all(any(w[name].equal(g[name]) for g in given) for w in wanted)


@pytest.mark.parametrize("ahead", [False, True])
def test_what_waits_at_the_end_is_learnt_around_the_network_too(ahead):
    method, most = Asking(), replace(BUDGET, staged=25)
    kind = GDumb if ahead else Replay
    learner(kind(method, most)).learn(0)
    assert [len(given) for given in method.given] == [1 if ahead else 2]


def test_gdumb_streams_an_experience_through_its_stage():
    taught = learner(GDumb(KMeans(), BUDGET), replace(RECIPE, epochs=3))
    taught.learn(0)
    assert taught.memory.seen.tolist() == [10, 10, 0, 0]
    assert taught.memory.data().counts.tolist() == [2, 2, 0, 0]


def test_a_staged_stream_goes_on_from_what_was_written_down():
    method = Replay(Random(), BUDGET)
    whole, first, second = (learner(method) for _ in range(3))
    for index in range(2):
        whole.learn(index)
    first.learn(0)
    second.restore(first.state())
    second.learn(1)
    assert whole.memory.data().images.equal(second.memory.data().images)
    for mine, theirs in zip(whole.network.parameters(), second.network.parameters(), strict=True):
        assert mine.equal(theirs)


def test_more_passes_over_a_stream_than_one_are_refused():
    with pytest.raises(ValueError, match=r"training.epochs must be 1 where buffer.staged .* got 2"):
        learner(Replay(Random(), BUDGET), replace(RECIPE, epochs=2))
