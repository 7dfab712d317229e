"""Network sources hand out the networks they promise, and resume with the same bytes."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from distill.around_given import AroundGiven
from distill.augment import Augmentation
from distill.condenser import Condenser, Task, condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.expert import Experts
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, LearnedLabels
from distill.learned import LABELS, Learned
from distill.network_sources import (
    Fresh,
    Networks,
    NetworkSource,
    Pool,
    TrainedOnReal,
    TrainedOnSynthetic,
)
from distill.networks import ConvNet, Network, fresh
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching
from distill.optimisers import SGD
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import derive
from distill.snapshots import Snapshots
from distill.training import Recipe, train

SHAPE = (1, 8, 8)
NET = ConvNet(3, 1)
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
RECIPE = Recipe(2, 2, 0.1, 0.9, 0.01, None, DSA)
ON_SET = TrainedOnSynthetic(NET, 3, RECIPE)
ON_REAL = TrainedOnReal(NET, 3, RECIPE, 5)
POOL = Pool(NET, 3, 2, 0.01, 2)
LONE = replace(POOL, size=1, most=50)
BETWEEN = Snapshots(Experts(NET, 2, 2, RECIPE, None), 2, True)
AROUND = AroundGiven(NET, weights_of(fresh(NET, SHAPE, 2, derive(5))), 1.0, 2)
SOURCES = [Fresh(NET, 2), ON_SET, ON_REAL, POOL, BETWEEN, AROUND]


def task_of(counts: list[int], seed: int = 0) -> Task:
    rng = torch.Generator().manual_seed(99)
    labels = torch.arange(len(counts)).repeat_interleave(6)
    labels = labels[torch.randperm(len(labels), generator=rng)]
    images = torch.randn(len(labels), *SHAPE, generator=rng)
    real = LabelledImages(images, labels, len(counts))
    return Task(real, torch.tensor(counts), Normalisation([0.5], [0.25]), seed)


def set_of(task: Task, labels=None) -> Learned:
    images = torch.randn(len(task.labels), *SHAPE, generator=torch.Generator().manual_seed(98))
    code = Code(Parameterisation(Pixels(False)), {"pixels": images}, task.counts, SHAPE)
    start = LabelledImages(images, task.labels, len(task.counts))
    numbers = None if labels is None else labels.begin(start, RealData(task))
    return Learned(code, labels or HardLabels(), {} if numbers is None else {LABELS: numbers})


def moved(small: Learned) -> None:
    """What an optimiser's step does to the set."""
    with torch.no_grad():
        small.parameters["pixels"].add_(0.25)


def pixels_of(small: Learned) -> torch.Tensor:
    return small.parameters["pixels"].detach().clone()


def number(index: int, seed: int = 0) -> Network:
    """The network that a source begins with, as the ``index``-th of its stream."""
    return fresh(NET, SHAPE, 2, derive(seed, "network", index))


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def kept(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def through_a_file(state: Mapping[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: type(source).__name__)
def test_only_sources_that_say_so_show_tasks_the_same_networks(source):
    def first(seed: int, networks: int | None) -> torch.Tensor:
        task = replace(task_of([2, 2], seed), networks=networks)
        network = source.begin(RealData(task), {}).take(0, set_of(task))
        return torch.cat([w.flatten() for w in network.state_dict().values()])

    assert first(1, 9).equal(first(2, 9)) == source.shared
    assert not first(1, 9).equal(first(1, 8)) or not source.shared
    assert not first(1, None).equal(first(2, None))


def began(source: NetworkSource, task: Task) -> Networks:
    return source.begin(RealData(task), {})


# --- Fresh ---


def test_a_fresh_network_serves_its_steps_and_is_replaced_by_the_next_of_its_stream():
    task = task_of([2, 1])
    networks, small = began(Fresh(NET, 2), task), set_of(task)
    taken = [networks.take(index, small) for index in range(5)]
    assert taken[0] is taken[1]
    assert taken[2] is taken[3]
    assert [same(taken[i], number(i // 2)) for i in range(5)] == [True] * 5
    assert not same(taken[0], taken[2])


def test_a_fresh_source_begins_in_the_middle_of_a_network():
    task = task_of([2, 1])
    assert same(began(Fresh(NET, 3), task).take(5, set_of(task)), number(1))


def test_a_fresh_source_leaves_nothing_to_keep():
    task = task_of([2, 1])
    networks = began(Fresh(NET, 2), task)
    networks.take(0, set_of(task))
    assert networks.state() == {}


# --- all sources ---


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_networks_of_another_seed_are_others(source):
    one, other = task_of([2, 1], seed=0), task_of([2, 1], seed=1)
    first, second = (began(source, task).take(0, set_of(task)) for task in (one, other))
    assert not same(first, second)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_networks_take_no_gradient_while_they_serve(source):
    task = task_of([2, 1])
    networks, small = began(source, task), set_of(task)
    for index in range(8):
        network = networks.take(index, small)
        assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_sources_leave_the_set_and_the_global_generator_alone(source):
    task = task_of([2, 1])
    networks, small, before = began(source, task), set_of(task), torch.get_rng_state()
    first = pixels_of(small)
    for index in range(8):
        networks.take(index, small)
    assert torch.equal(pixels_of(small), first)
    assert small.parameters["pixels"].grad is None
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("done", range(1, 8))
def test_a_source_goes_on_from_its_state_with_the_same_bytes(source, done):
    task = task_of([2, 1])
    small, again, networks = set_of(task), set_of(task), began(source, task)
    for index in range(done):
        networks.take(index, small)
        moved(small)
        moved(again)
    resumed = source.begin(RealData(task), through_a_file(networks.state()))
    for index in range(done, 9):
        assert same(resumed.take(index, again), networks.take(index, small))
        moved(small)
        moved(again)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
def test_a_state_does_not_change_with_later_steps(source):
    task = task_of([2, 1])
    networks, small = began(source, task), set_of(task)
    networks.take(0, small)
    networks.take(1, small)
    state = networks.state()
    before = through_a_file(state)
    for index in range(2, 8):
        networks.take(index, small)
    torch.testing.assert_close(dict(state), before, rtol=0, atol=0)


@pytest.mark.parametrize("source", [*SOURCES, LONE], ids=lambda s: type(s).__name__)
def test_two_sources_may_go_on_from_one_state(source):
    task = task_of([2, 1])
    networks, small = began(source, task), set_of(task)
    for index in range(3):
        networks.take(index, small)
    state = networks.state()
    taken = []
    for _ in range(2):
        again = source.begin(RealData(task), state)
        taken.append(kept([again.take(index, small) for index in range(3, 8)][-1]))
    torch.testing.assert_close(taken[0], taken[1], rtol=0, atol=0)


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("done", [1, 4])
def test_distilling_resumes_from_a_file_with_the_same_bytes(source, done):
    objective = Matching(DistributionMatching(), source, DSA, 4, None)
    pixels, start = Parameterisation(Pixels(False)), Random()
    method: Condenser = Distillation(objective, pixels, HardLabels(), start, SGD(1.0, 0.5), 5)
    task = task_of([2, 1])
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    *_, last = method.steps(task, states[done])
    assert torch.equal(last.result().data.images, condense(method, task).data.images)


# --- TrainedOnSynthetic ---


def test_a_network_is_trained_on_the_set_as_it_is_between_two_steps():
    task = task_of([2, 1])
    networks, small, expected = began(ON_SET, task), set_of(task), number(0)
    for index in range(3):
        if index > 0:
            data = LabelledImages(pixels_of(small), task.labels, 2)
            train(expected, data, RECIPE, derive(0, "inner training", index))
        assert same(networks.take(index, small), expected)
        moved(small)


def test_after_its_steps_an_untrained_network_takes_its_place():
    task = task_of([2, 1])
    networks, small = began(ON_SET, task), set_of(task)
    taken = [kept(networks.take(index, small)) for index in range(7)]
    for index, expected in ((0, number(0)), (3, number(1)), (6, number(2))):
        torch.testing.assert_close(taken[index], kept(expected), rtol=0, atol=0)
    assert not torch.equal(taken[4]["classifier.weight"], taken[3]["classifier.weight"])


def test_a_network_of_one_step_is_never_trained():
    # DC at one image per class matches at random weights only.
    task = task_of([2, 1])
    networks, small = began(replace(ON_SET, outer=1), task), set_of(task)
    assert all(same(networks.take(index, small), number(index)) for index in range(4))


def test_training_on_the_set_is_by_its_learned_labels():
    task = task_of([2, 1])
    recipe = replace(RECIPE, loss="squared")
    small, expected = set_of(task, LearnedLabels()), number(0)
    with torch.no_grad():
        small.parameters[LABELS].mul_(-1)  # every image belongs to the other class
    targets = small.parameters[LABELS].detach().clone()
    networks = began(replace(ON_SET, recipe=recipe), task)
    networks.take(0, small)
    data = LabelledImages(pixels_of(small), task.labels, 2, targets)
    train(expected, data, recipe, derive(0, "inner training", 1))
    assert same(networks.take(1, small), expected)


# --- TrainedOnReal ---


def test_a_network_is_trained_on_real_images_drawn_between_two_steps():
    task = task_of([2, 1])
    networks, small, expected = began(ON_REAL, task), set_of(task), number(0)
    by_class = torch.cat([(task.real.labels == label).nonzero().flatten() for label in (0, 1)])
    for index in range(3):
        if index > 0:
            rng = derive(0, "inner training", index)
            rows = by_class[torch.randperm(12, generator=rng)[:5]]
            data = LabelledImages(task.real.images[rows], task.real.labels[rows], 2)
            train(expected, data, RECIPE, rng)
        assert same(networks.take(index, small), expected)
        moved(small)


def test_training_on_real_images_does_not_depend_on_the_set():
    task = task_of([2, 1])
    taken = []
    for shift in (False, True):
        networks, small = began(ON_REAL, task), set_of(task)
        for index in range(3):
            network = networks.take(index, small)
            if shift:
                moved(small)
        taken.append(network)
    assert same(*taken)


# --- Pool ---


class Naive:
    """FRePo's pool, written without the code under test."""

    def __init__(self, size: int, most: int, learning_rate: float) -> None:
        self.most, self.learning_rate = most, learning_rate
        self.numbers, self.ages = list(range(size)), [k * most // size for k in range(size)]
        self.networks = [number(k) for k in range(size)]
        self.optimisers = [self.optimiser(network) for network in self.networks]
        self.served: int | None = None

    def optimiser(self, network: Network) -> torch.optim.Adam:
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate)

    def take(self, index: int, small: Learned, batch: int) -> Network:
        rng, k = derive(0, "pool", index), self.served
        if k is not None and self.ages[k] == self.most:
            self.numbers[k] += len(self.networks)
            self.ages[k], self.networks[k] = 0, number(self.numbers[k])
            self.optimisers[k] = self.optimiser(self.networks[k])
        elif k is not None:
            self.ages[k] += 1
            rows = torch.randperm(len(small), generator=rng)[:batch]
            wanted = torch.full((len(rows), 2), -0.5)
            wanted[torch.arange(len(rows)), small.classes[rows]] = 0.5
            gap = self.networks[k](pixels_of(small)[rows]) - wanted / (2 / 10) ** 0.5
            self.optimisers[k].zero_grad()
            gap.square().sum(1).mean().backward()
            self.optimisers[k].step()
        self.served = int(torch.randint(len(self.networks), (1,), generator=rng))
        return self.networks[self.served]


def test_networks_of_a_pool_are_trained_and_replaced_as_in_the_naive_loop():
    task = task_of([3, 1])
    networks, small, expected = began(POOL, task), set_of(task), Naive(3, 2, 0.01)
    for index in range(25):
        ours, theirs = networks.take(index, small), expected.take(index, small, 2)
        torch.testing.assert_close(kept(ours), kept(theirs), rtol=1e-5, atol=1e-7)
        moved(small)
    assert max(expected.numbers) >= 6  # one place was filled anew twice at least


def test_ages_of_a_pool_are_staggered_at_first():
    # 4 networks that live for 10 steps: 0, 2.5, 5 and 7.5, rounded down
    networks = began(replace(POOL, size=4, most=10), task_of([2, 1]))
    assert networks.state()["age"] == [0, 2, 5, 7]


def test_a_pool_that_goes_on_fills_a_place_with_the_next_of_its_networks():
    # Alone in its pool a network is trained twice, and replaced before the third step.
    task, source = task_of([2, 1]), replace(POOL, size=1)
    networks, small = began(source, task), set_of(task)
    for index in range(4):
        network = networks.take(index, small)
    assert same(network, number(1))
    resumed = source.begin(RealData(task), through_a_file(networks.state()))
    for index in range(4, 7):
        network = resumed.take(index, small)
    assert same(network, number(2))


def test_only_the_network_that_served_is_trained():
    task = task_of([2, 1])
    networks, small = began(POOL, task), set_of(task)
    networks.take(0, small)
    before = networks.state()
    networks.take(1, small)
    after = networks.state()
    served = before["served"]
    changed = [
        not torch.equal(a["classifier.weight"], b["classifier.weight"])
        for a, b in zip(before["networks"], after["networks"], strict=True)
    ]
    assert changed == [k == served for k in range(3)]


def test_a_pool_serves_all_its_networks():
    task = task_of([2, 1])
    networks, small = began(replace(POOL, most=100), task), set_of(task)
    assert len({id(networks.take(index, small)) for index in range(20)}) == 3


def test_a_pool_is_trained_on_learned_labels_as_they_are():
    task, recorded = task_of([2, 1]), []
    for turned in (False, True):
        networks, small = began(replace(POOL, size=1, most=9), task), set_of(task, LearnedLabels())
        networks.take(0, small)
        with torch.no_grad():
            small.parameters[LABELS].mul_(-1 if turned else 1)
        recorded.append(kept(networks.take(1, small)))
    hard_networks, hard = began(replace(POOL, size=1, most=9), task), set_of(task)
    hard_networks.take(0, hard)
    expected = kept(hard_networks.take(1, hard))
    # The start of learned labels is what hard labels stand for.
    torch.testing.assert_close(recorded[0], expected, rtol=0, atol=0)
    assert not torch.equal(recorded[1]["classifier.bias"], expected["classifier.bias"])


# --- values ---


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Fresh(NET, 2), "steps"),
        (ON_SET, "outer"),
        (ON_REAL, "outer"),
        (ON_REAL, "images"),
        (POOL, "size"),
        (POOL, "most"),
        (POOL, "batch"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_counts_below_one_are_refused(source, name):
    with pytest.raises(ValueError, match=rf"^network_source\.{name} must be >= 1, got 0$"):
        replace(source, **{name: 0})


def test_a_learning_rate_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match=r"^network_source\.learning_rate must be > 0, got 0\.0$"):
        replace(POOL, learning_rate=0.0)


@pytest.mark.parametrize("verbs", [NetworkSource, Networks], ids=lambda v: v.__name__)
def test_verbs_cannot_be_made_without_what_they_mean(verbs):
    with pytest.raises(TypeError, match="abstract"):
        verbs()
