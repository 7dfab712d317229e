"""What holds weights, answers or gradients keeps what is known; without strength it is naive."""

from dataclasses import replace

import pytest
import torch

from distill.augment import Augmentation
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from distill.training import Recipe
from fedcl.continual.agem import AGEM
from fedcl.continual.ewc import EWC
from fedcl.continual.learner import Learner, Setting
from fedcl.continual.lwf import LwF
from fedcl.continual.naive import Naive
from fedcl.continual.si import SynapticIntelligence
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32
from fedcl.streams.base import by_classes

NORMALISATION = Normalisation([0.5], [0.25])
RECIPE = Recipe(
    epochs=10,
    batch=8,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)
METHODS = {
    "ewc": EWC(300.0, None, 100),
    "online": EWC(300.0, 0.9, 100),
    "si": SynapticIntelligence(10.0, 0.1),
    "lwf": LwF(3.0, 2.0),
    "agem": AGEM(Random(), Budget(32, None, "fixed", Float32()), 32),
}
COPIES = {"ewc": 2, "online": 2, "si": 2, "lwf": 1, "agem": 0}


def riddles(count: int, seed: int) -> LabelledImages:
    """Three bars, bright or dark, on noise; whether two of them differ is the class.

    Classes 0 and 1 are about the first and the second, classes 2 and 3 about the second and the
    third: a narrow network that turns to these forgets those, though its last rows stay.
    """
    rng = torch.Generator().manual_seed(seed)
    bars, task = torch.randint(0, 2, (count, 3), generator=rng), torch.arange(count) % 2
    differ = bars[:, :2] ^ bars[:, 1:]
    pixels = torch.randint(0, 80, (count, 1, 8, 8), generator=rng)
    pixels[:, 0, :6] += 160 * bars.repeat_interleave(2, 1)[:, :, None]
    labels = 2 * task + differ[torch.arange(count), task]
    return LabelledImages(NORMALISATION(pixels.to(torch.uint8)), labels, 4)


def setting(recipe: Recipe = RECIPE, *, told: bool = True, groups=((0, 1), (2, 3))) -> Setting:
    return Setting(
        experiences=by_classes(riddles(160, 1), riddles(200, 2), groups),
        tells_tasks=told,
        normalisation=NORMALISATION,
        architecture=MLP(8, 1),
        recipe=recipe,
        seed=0,
    )


def learnt(method, **words) -> Learner:
    learner = Learner(method, setting(**words))
    learner.learn(0)
    learner.learn(1)
    return learner


def assert_equal_networks(one, other):
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.fixture(scope="module")
def naive() -> Learner:
    return learnt(Naive())


@pytest.mark.parametrize("name", METHODS)
def test_the_first_task_is_kept_that_naive_training_loses(name, naive):
    first, second = learnt(METHODS[name]).accuracies()
    assert first > naive.accuracies()[0] + 0.1
    assert second > 0.95


@pytest.mark.parametrize(
    "method", [EWC(0.0, None, 10), SynapticIntelligence(0.0, 0.1), LwF(0.0, 2.0)]
)
@pytest.mark.parametrize("told", [False, True])
def test_without_strength_it_is_naive_training(method, told):
    short = replace(RECIPE, epochs=2)
    one, other = (learnt(m, recipe=short, told=told) for m in (method, Naive()))
    assert_equal_networks(one.network, other.network)


@pytest.mark.parametrize("name", METHODS)
def test_it_goes_on_from_what_was_written_down(name):
    short = setting(replace(RECIPE, epochs=2))
    first, second = Learner(METHODS[name], short), Learner(METHODS[name], short)
    first.learn(0)
    second.restore(first.state())
    first.learn(1)
    second.learn(1)
    assert_equal_networks(first.network, second.network)
    assert first.left.keys() == second.left.keys()
    assert all(torch.equal(first.left[key], second.left[key]) for key in first.left)


@pytest.mark.parametrize("name", METHODS)
def test_classes_may_come_back(name):
    words = {"recipe": replace(RECIPE, epochs=5), "told": False, "groups": [[0, 1], [0, 1]]}
    learner = learnt(METHODS[name], **words)
    assert learner.accuracies()[0] > 0.9
    assert all(weights.isfinite().all() for weights in learner.network.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_is_counted(name):
    learner = Learner(METHODS[name], setting(replace(RECIPE, epochs=1)))
    assert learner.kept_bytes == 0
    learner.learn(0)
    size = sum(weights.numel() for weights in learner.network.parameters())
    assert learner.kept_bytes == COPIES[name] * 4 * size
