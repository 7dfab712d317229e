"""CAFE's schedule follows its accuracies, and ends at its caps."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import pytest
import torch
from torch import nn

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.coresets import Random
from distill.dynamic_networks import Dynamic
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels
from distill.learned import Learned
from distill.network_sources import Networks
from distill.networks import Architecture, ConvNet, ImageShape, Network, fresh
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching
from distill.optimisers import SGD
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.real import RealData
from distill.rng import derive
from distill.training import Recipe, score, train

SHAPE = (1, 8, 8)
PLAIN = Augmentation([], False)
EPOCH = Recipe(1, 1, 0.01, 0.0, 0.0, None, PLAIN)  # one image a step: their order shows


@final
@dataclass(frozen=True)
class Sure(Architecture):
    """A linear layer of zeros whose bias calls every image class 0, by a margin."""

    margin: float

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        network = Network(nn.Flatten(), image_shape[1] * image_shape[2], num_classes)
        with torch.no_grad():
            network.classifier.weight.zero_()
            network.classifier.bias.zero_()
            network.classifier.bias[0] = self.margin
        return network


# Any accuracy that a Sure network has is 1/2 until training flips it, and 1 from then on.
SURE = Dynamic(
    architecture=Sure(4.0),
    recipe=EPOCH,
    window=3,
    settled=0.04,
    learned=0.03,
    most_steps=50,
    most_epochs=2,
    real_batch=4,
)
RANDOM = replace(SURE, architecture=ConvNet(3, 1), most_steps=3, settled=0.0)


def task_of(per_class: tuple[int, int] = (6, 6), seed: int = 0) -> Task:
    """Class 0 is near -1, class 1 near 1."""
    labels = torch.arange(2).repeat_interleave(torch.tensor(per_class))
    rng = torch.Generator().manual_seed(99)
    noise = torch.randn(len(labels), *SHAPE, generator=rng) * 0.1
    images = noise + (labels * 2.0 - 1).view(-1, 1, 1, 1)
    real = LabelledImages(images, labels, 2)
    return Task(real, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), seed)


def set_of(task: Task) -> Learned:
    images = torch.tensor([-1.0, 1.0]).view(-1, 1, 1, 1).expand(-1, *SHAPE)
    code = Code(Parameterisation(Pixels(False)), {"pixels": images}, task.counts, SHAPE)
    return Learned(code, HardLabels(), {})


def noted(source: Dynamic, notes: list[float], task: Task | None = None) -> Networks:
    """The source at its first network, with these accuracies noted."""
    return source.begin(RealData(task or task_of()), {"notes": notes})


def went_on(networks: Networks, task: Task | None = None, index: int = 9) -> bool:
    """Whether the next step is another one on the same network."""
    networks.take(index, set_of(task or task_of()))
    return networks.state()["number"] == 0


def trained(source: Dynamic, task: Task, epochs: int, index: int) -> Network:
    """A first network of the source, trained on the set for some epochs."""
    network, small = source.architecture.build(SHAPE, 2), set_of(task)
    rng = derive(task.seed, "inner training", index)
    data = LabelledImages(small.images(torch.arange(2)), task.labels, 2)
    for _ in range(epochs):
        train(network, data, source.recipe, rng)
    return network


def naive(source: Dynamic, task: Task, steps: int) -> Iterator[tuple[Network, list[float]]]:
    """CAFE's released loop: the network of each step, and the accuracies noted of it so far."""
    real, data = RealData(task), set_of(task).as_images()
    network, number, notes = real.fresh(source.architecture, "network", 0), 0, list[float]()
    yield network, notes
    for index in range(1, steps):
        test, order = derive(0, "accuracy", index), derive(0, "inner training", index)
        notes = [*notes, right(network, real, source, test)]
        last = notes[-source.window :]
        agree = len(last) == source.window and max(last) - min(last) < source.settled
        if agree or len(notes) == source.most_steps:
            number, notes = number + 1, []
            network = real.fresh(source.architecture, "network", number)
        else:
            seen = list[float]()
            while len(seen) < source.most_epochs:
                train(network, data, source.recipe, order)
                seen.append(right(network, real, source, test))
                last = seen[-source.window :]
                if len(last) == source.window and max(last) - min(last) > source.learned:
                    break
        yield network, notes


def right(network: Network, real: RealData, source: Dynamic, rng: torch.Generator) -> float:
    batch = real.batch(source.real_batch, rng)
    return score(network, LabelledImages(batch.images, batch.targets, 2))[0]


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def number(index: int) -> Network:
    return fresh(ConvNet(3, 1), SHAPE, 2, derive(0, "network", index))


def through_a_file(state: Mapping[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_note_is_the_accuracy_on_a_real_batch():
    # Of class 0 there are 6 images, of which 4 are taken, and 2 of class 1: 4/6 are right.
    task = task_of((6, 2))
    networks, small = SURE.begin(RealData(task), {}), set_of(task)
    networks.take(0, small)
    assert networks.state()["notes"] == []
    networks.take(1, small)
    assert networks.state()["notes"] == [4 / 6]


@pytest.mark.parametrize("settled", [0.0, 0.3])
@pytest.mark.parametrize("learned", [0.1, 1.0])
def test_the_schedule_is_the_released_loop_with_its_caps(settled, learned):
    # Half of class 1 lies where class 0 does, so accuracy is a matter of the draw.
    task = task_of()
    task.real.images[9:] *= -1
    source = replace(
        RANDOM, settled=settled, learned=learned, most_steps=4, most_epochs=6, real_batch=2
    )
    networks, small = source.begin(RealData(task), {}), set_of(task)
    for index, (network, notes) in enumerate(naive(source, task, 12)):
        assert same(networks.take(index, small), network)
        assert networks.state()["notes"] == notes


@pytest.mark.parametrize(
    ("notes", "settled", "goes_on"),
    [
        # the next note is 1/2
        ([], 0.04, True),  # one note
        ([0.5], 0.04, True),  # two: still fewer than the window
        ([0.5, 0.5], 0.04, False),  # three that agree
        ([0.25, 0.5], 0.26, False),  # spread 1/4
        ([0.25, 0.5], 0.25, True),  # as large as allowed is not below
        ([0.75, 0.5], 0.25, True),  # it is the largest minus the least
        ([0.0, 0.5, 0.5], 0.04, False),  # the first is outside the window
        ([0.5, 0.5, 0.5, 0.5, 0.0], 0.04, True),  # the last two don't agree
    ],
)
def test_the_set_goes_on_with_a_network_until_its_notes_agree(notes, settled, goes_on):
    assert went_on(noted(replace(SURE, settled=settled), notes)) == goes_on


@pytest.mark.parametrize(("window", "goes_on"), [(2, False), (3, False), (4, True)])
def test_the_window_is_how_many_notes_must_agree(window, goes_on):
    assert went_on(noted(replace(SURE, window=window), [0.9, 0.5, 0.5])) == goes_on


@pytest.mark.parametrize(("notes", "goes_on"), [(2, True), (3, False), (4, False)])
def test_a_network_serves_no_more_than_its_most_steps(notes, goes_on):
    # A spread is never below 0, so nothing but the cap ends its life, at its fourth note.
    source = replace(SURE, settled=0.0, most_steps=4)
    assert went_on(noted(source, [0.1] * notes)) == goes_on


@pytest.mark.parametrize("most_epochs", [1, 2, 5])
def test_a_flat_accuracy_ends_at_most_epochs(most_epochs):
    # A margin of a thousand is not overcome: accuracy stays 1/2 where CAFE would hang.
    source = replace(SURE, architecture=Sure(1000.0), most_epochs=most_epochs)
    network = noted(source, []).take(9, set_of(task_of()))
    assert same(network, trained(source, task_of(), most_epochs, 9))


def epochs_until_right(source: Dynamic, task: Task) -> int:
    """The epoch after which a network of the source calls both classes right."""
    for epochs in range(1, 50):
        network = trained(source, task, epochs, 9)
        if score(network, task.real)[0] == 1.0:
            return epochs
    raise AssertionError("never")


@pytest.mark.parametrize(("learned", "window"), [(0.03, 3), (0.49, 2)])
def test_a_network_is_trained_until_its_accuracies_spread(learned, window):
    # Accuracies are 1/2, ..., 1/2, 1, 1, ...: they spread by 1/2 once the first 1 is there.
    task, source = task_of(), replace(SURE, learned=learned, window=window, most_epochs=40)
    epochs = epochs_until_right(source, task)
    assert epochs > window
    network = noted(source, []).take(9, set_of(task))
    assert same(network, trained(source, task, epochs, 9))


def test_a_spread_as_large_as_learned_is_not_above_it():
    task, source = task_of(), replace(SURE, learned=0.5, most_epochs=30)
    assert epochs_until_right(source, task) < 30
    network = noted(source, []).take(9, set_of(task))
    assert same(network, trained(source, task, 30, 9))


def test_a_spread_needs_as_many_epochs_as_the_window():
    # It is right after a few epochs, but accuracies are compared from the twentieth on.
    task, source = task_of(), replace(SURE, window=20, most_epochs=40)
    assert epochs_until_right(source, task) < 20
    network = noted(source, []).take(9, set_of(task))
    assert same(network, trained(source, task, 20, 9))


def test_a_network_is_trained_on_the_set_as_it_is():
    task = task_of()
    source, small = replace(SURE, most_epochs=1), set_of(task)
    with torch.no_grad():
        small.parameters["pixels"].mul_(0.5)
    network = Sure(4.0).build(SHAPE, 2)
    data = LabelledImages(small.parameters["pixels"].detach().clone(), task.labels, 2)
    train(network, data, EPOCH, derive(0, "inner training", 9))
    assert same(noted(source, []).take(9, small), network)


def test_a_fresh_network_starts_its_notes_anew():
    networks = noted(SURE, [0.5, 0.5])
    networks.take(9, set_of(task_of()))
    assert networks.state()["notes"] == []
    networks.take(10, set_of(task_of()))
    assert networks.state()["notes"] == [0.5]


def test_a_network_is_trained_between_its_steps_and_a_fresh_one_is_not():
    task = task_of()
    networks, small = RANDOM.begin(RealData(task), {}), set_of(task)
    taken, before = [], number(0)
    for index in range(7):
        network = networks.take(index, small)
        taken.append([n for n in range(3) if same(network, number(n))])
        assert index == 0 or not same(network, before)
        before.load_state_dict(network.state_dict())
    # Three steps a network, the first of them on it as it was initialised.
    assert taken == [[0], [], [], [1], [], [], [2]]


def test_networks_take_no_gradient_while_they_serve():
    task = task_of()
    networks, small = RANDOM.begin(RealData(task), {}), set_of(task)
    for index in range(6):
        network = networks.take(index, small)
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert small.parameters["pixels"].grad is None


@pytest.mark.parametrize("done", range(1, 9))
def test_the_source_goes_on_from_its_state_with_the_same_bytes(done):
    task = task_of()
    networks, small = RANDOM.begin(RealData(task), {}), set_of(task)
    for index in range(done):
        networks.take(index, small)
    state = through_a_file(networks.state())
    resumed = RANDOM.begin(RealData(task), state)
    for index in range(done, 10):
        assert same(resumed.take(index, small), networks.take(index, small))
        assert resumed.state()["notes"] == networks.state()["notes"]


def test_a_state_does_not_change_with_later_steps():
    task = task_of()
    networks, small = RANDOM.begin(RealData(task), {}), set_of(task)
    networks.take(0, small)
    networks.take(1, small)
    state = networks.state()
    before = through_a_file(state)
    for index in range(2, 8):
        networks.take(index, small)
    torch.testing.assert_close(dict(state), before, rtol=0, atol=0)


@pytest.mark.parametrize("done", [1, 3])
def test_distilling_resumes_from_a_file_with_the_same_bytes(done):
    objective = Matching(DistributionMatching(), RANDOM, PLAIN, 4, None)
    pixels, start = Parameterisation(Pixels(False)), Random()
    method = Distillation(objective, pixels, HardLabels(), start, SGD(1.0, 0.5), 5)
    task = task_of()
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    *_, last = method.steps(task, states[done])
    assert torch.equal(last.result().data.images, condense(method, task).data.images)


@pytest.mark.parametrize(
    ("name", "least"),
    [("window", 2), ("most_steps", 1), ("most_epochs", 1), ("real_batch", 1)],
)
def test_counts_below_their_least_are_refused(name, least):
    message = rf"^network_source\.{name} must be >= {least}, got {least - 1}$"
    with pytest.raises(ValueError, match=message):
        replace(SURE, **{name: least - 1})


@pytest.mark.parametrize("name", ["settled", "learned"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_spreads_outside_their_range_are_refused(name, value):
    message = rf"^network_source\.{name} must be in \[0, 1\], got {value}$"
    with pytest.raises(ValueError, match=message):
        replace(SURE, **{name: value})
