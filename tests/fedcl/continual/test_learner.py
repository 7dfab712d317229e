"""A learner trains on what its method says, and on nothing else."""

from dataclasses import replace

import pytest
import torch

from distill.augment import Augmentation
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.rng import derive, subseed
from distill.training import Recipe, train
from fedcl.continual import learner as learner_module
from fedcl.continual.cumulative import Cumulative
from fedcl.continual.er_ace import ERACE
from fedcl.continual.gdumb import GDumb
from fedcl.continual.joint import Joint
from fedcl.continual.learner import Learner, Setting
from fedcl.continual.naive import Naive
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32
from fedcl.streams.base import by_classes, by_views, unchanged

NORMALISATION = Normalisation([0.5], [0.25])
RECIPE = Recipe(
    epochs=6,
    batch=8,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)
GDUMB = GDumb(Random(), Budget(6, None, "fixed", Float32()))


def blocks(count: int, seed: int) -> LabelledImages:
    """Classes 0, 1 and 2: a bright third of the image each, on noise."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.randint(0, 90, (count, 1, 9, 9), generator=rng, dtype=torch.uint8)
    for row, label in enumerate(labels.tolist()):
        pixels[row, :, 3 * label : 3 * label + 3] += 150
    return LabelledImages(NORMALISATION(pixels), labels, 3)


def setting(recipe: Recipe = RECIPE, train: LabelledImages | None = None) -> Setting:
    return Setting(
        experiences=by_classes(
            blocks(48, 1) if train is None else train, blocks(30, 2), [[0], [1], [2]]
        ),
        tells_tasks=False,
        normalisation=NORMALISATION,
        architecture=MLP(8, 1),
        recipe=recipe,
        seed=0,
    )


def learnt(method, experiences: int = 3, **words) -> Learner:
    learner = Learner(method, setting(**words))
    for index in range(experiences):
        learner.learn(index)
    return learner


def assert_equal_networks(one, other):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_cumulative_training_forgets_nothing_that_fine_tuning_forgets():
    long = replace(RECIPE, epochs=40, learning_rate=0.3)
    assert learnt(Cumulative(), recipe=long).accuracies() == [1.0, 1.0, 1.0]
    assert min(learnt(Naive(), recipe=long).accuracies()) == 0.0


def test_cumulative_training_knows_nothing_of_what_comes():
    # The last experience's images are others: what is known before it comes doesn't change.
    other = blocks(48, 1)
    other.images[other.labels == 2] = 0.0
    first, second = (learnt(Cumulative(), 2, train=data) for data in (None, other))
    assert_equal_networks(first.network, second.network)


def test_joint_training_is_one_step_on_all():
    assert learnt(Joint(), 1).accuracies() == [1.0, 1.0, 1.0]


def test_gdumb_is_a_fresh_network_trained_on_the_memory():
    learner = learnt(GDUMB, 2)
    assert learner.memory.data().counts.tolist() == [2, 2, 0]
    expected = fresh(MLP(8, 1), (1, 9, 9), 3, derive(0, "network", 1))
    rng = derive(subseed(0, "experience", 1), "training")
    train(expected, learner.memory.data(), RECIPE, rng)
    assert_equal_networks(learner.network, expected)


def test_gdumb_learns_what_the_memory_holds():
    assert learnt(GDUMB, recipe=replace(RECIPE, epochs=40)).accuracies() == [1.0, 1.0, 1.0]


def test_gdumb_goes_on_from_what_was_written_down():
    whole, first = learnt(GDUMB), learnt(GDUMB, 2)
    second = Learner(GDUMB, setting())
    second.restore(first.state())
    second.learn(2)
    assert_equal_networks(whole.network, second.network)
    assert torch.equal(whole.memory.data().images, second.memory.data().images)


def test_a_memory_that_is_ahead_tells_a_new_class_from_old_ones():
    # The stream's one class has no rival in its batch, so that the memory alone teaches it.
    method = ERACE(Random(), Budget(6, None, "fixed", Float32()))
    long = replace(RECIPE, epochs=40, learning_rate=0.3)
    assert learnt(method, recipe=long).accuracies() == [1.0, 1.0, 1.0]


REFUSED = {
    "decay_after must be null where Avalanche trains, got 3": {"decay_after": 3},
    "cutmix must be 0.0 where": {"cutmix": 0.5},
    "loss must be cross_entropy where": {"loss": "squared"},
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_avalanche_does_not_do_is_refused(reason):
    recipe = replace(RECIPE, **REFUSED[reason])
    with pytest.raises(ValueError, match=f"training.{reason}"):
        Learner(Naive(), setting(recipe))
    Learner(GDUMB, setting(recipe))  # which Avalanche doesn't train


def test_the_import_of_avalanche_is_no_part_of_training(monkeypatch):
    now, loop = [0.0], learner_module.avalanche_loop

    def first_import():
        now[0] = 100.0
        return loop()

    monkeypatch.setattr(learner_module, "avalanche_loop", first_import)
    monkeypatch.setattr(learner_module.time, "perf_counter", lambda: now[0])
    assert Learner(Naive(), setting()).learn(0).train_seconds == 0
    now[0] = 0.0
    Learner(Naive(), setting()).work()  # whose pieces are timed by whoever asked for them
    assert now[0] == 100.0


def test_training_on_the_memory_keeps_to_the_answers_of_a_told_task():
    told = Learner(GDUMB, replace(setting(), tells_tasks=True))
    told.learn(2)  # class 2 alone, which is the only answer: nothing to learn
    assert_equal_networks(told.network, told._fresh("network", 2))
    free = Learner(GDUMB, setting())
    free.learn(2)
    assert not free.network.classifier.bias.equal(told.network.classifier.bias)


def test_told_tasks_whose_classes_come_back_are_refused_before_training():
    same = by_views(blocks(48, 1), blocks(30, 2), [unchanged] * 2, divided=False, seed=0)
    told = replace(setting(), experiences=same, tells_tasks=True)
    with pytest.raises(ValueError, match="told tasks must have classes of their own"):
        Learner(Naive(), told)
    Learner(Naive(), replace(told, tells_tasks=False))
