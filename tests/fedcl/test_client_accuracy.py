"""A client's accuracy is that of its classes, weighted as it holds them."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.augment import Augmentation
from distill.images import LabelledImages, Normalisation
from distill.networks import Network
from distill.rng import derive
from distill.training import SCORED_AT_ONCE, Recipe, score, train
from fedcl.client_accuracy import (
    class_accuracies,
    client_counts,
    expected_accuracy,
    global_accuracies,
    mean_and_worst,
    personalised_accuracies,
)
from fedcl.federated.base import ServerTask, World
from fedcl.shift import Noise, Rotation, Shift, Unshifted, Views
from fedcl.wire import pack_weights

SHIFTS = [Unshifted(), Noise(2.0), Rotation(2)]
RECIPE = Recipe(2, 4, 0.5, 0.0, 0.0, None, Augmentation([], False))


class FirstPixel(nn.Module):
    """Answers the class that an image's first pixel names."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        return nn.functional.one_hot(images[:, 0, 0, 0].long(), 3).float()


def answered(labels: list[int], answers: list[int]) -> LabelledImages:
    images = torch.tensor(answers).float().view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    return LabelledImages(images, torch.tensor(labels), 3)


def held_out() -> LabelledImages:
    rng = torch.Generator().manual_seed(9)
    labels = torch.arange(60) * 7 % 3
    return LabelledImages(torch.randn(60, 1, 8, 8, generator=rng), labels, 3)


def global_network(world: World) -> Network:
    """A network that is not the one that training starts from."""
    return replace(world, seed=5).first_network()


def task_of(world: World) -> ServerTask:
    return ServerTask(world, 1, 0, pack_weights(global_network(world)), None)


def views_of(world: World, shift: Shift) -> Views:
    return Views(shift, len(world.clients), world.normalisation, world.seed)


def naive(network: nn.Module, test: LabelledImages, own: LabelledImages) -> float:
    """The definition: the accuracy on each class of the client, times its share."""
    total = 0.0
    for label in range(3):
        share = (own.labels == label).float().mean().item()
        total += share * score(network, test.rows((test.labels == label).nonzero()[:, 0]))[0]
    return total


def test_class_accuracies_are_shares_of_right_answers():
    # Class 0: right, wrong. Class 1: right, right, wrong, wrong, wrong. Class 2: no image.
    data = answered([0, 1, 1, 0, 1, 1, 1], [0, 1, 0, 2, 1, 2, 0])
    found = class_accuracies(FirstPixel(), data)
    assert found[:2].tolist() == [0.5, 0.4]
    assert found[2].isnan()


def test_every_image_counts_when_there_are_several_batches():
    # One wrong answer in the first batch, one in the last.
    labels = [0] * (2 * SCORED_AT_ONCE + 1)
    answers = [1, *labels[1:-1], 2]
    found = class_accuracies(FirstPixel(), answered(labels, answers))
    assert found[0].item() == pytest.approx(1 - 2 / len(labels))


def test_expected_accuracy_weights_classes_as_the_client_holds_them():
    # (6 * 0.5 + 2 * 0.25 + 0 * 1) / 8 = 3.5 / 8.
    accuracies = torch.tensor([0.5, 0.25, 1.0], dtype=torch.float64)
    assert expected_accuracy(torch.tensor([6, 2, 0]), accuracies) == 0.4375


def test_classes_without_test_images_are_left_out():
    # (1 * 0.5 + 3 * 0.75) / 4, whatever the client holds of class 1.
    accuracies = torch.tensor([0.5, torch.nan, 0.75], dtype=torch.float64)
    assert expected_accuracy(torch.tensor([1, 9, 3]), accuracies) == 0.6875
    assert expected_accuracy(torch.tensor([0, 9, 0]), accuracies) is None


def test_the_mean_counts_clients_alike_and_leaves_out_those_without_accuracy():
    assert mean_and_worst([0.75, None, 0.25, 1.0]) == (pytest.approx(2 / 3), 0.25)
    assert mean_and_worst([None]) == (None, None)


def test_counts_are_of_all_experiences(world):
    first, second = answered([0, 0, 2], [0] * 3), answered([2, 1], [0] * 2)
    streams = replace(world, clients=[[first, second], [second]])
    assert client_counts(streams).tolist() == [[2, 1, 2], [0, 1, 1]]


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_global_accuracies_agree_with_the_naive_loop(world, shift):
    clients = [
        [answered([0, 0, 1], [0] * 3)],
        [answered([2, 2], [0] * 2)],
        [answered([1, 2, 2, 2], [0] * 4)],
    ]
    world = replace(world, clients=clients)
    task, views, test = task_of(world), views_of(world, shift), held_out()
    network = global_network(world)
    expected = [
        naive(network, views.seen_by(client, test, "test"), own)
        for client, (own,) in enumerate(clients)
    ]
    assert global_accuracies(task, test, views) == pytest.approx(expected)
    assert len(set(expected)) > 1


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_personalised_accuracies_agree_with_the_naive_loop(world, shift):
    task, views, test = task_of(world), views_of(world, shift), held_out()
    expected = []
    for client, (own,) in reversed(list(enumerate(world.clients))):  # the order must not matter
        network = global_network(world)
        train(network, own, RECIPE, derive(world.seed, "personalise", client))
        expected.insert(0, naive(network, views.seen_by(client, test, "test"), own))
    found = list(personalised_accuracies(task, RECIPE, test, views))
    assert found == pytest.approx(expected)
    assert found != pytest.approx(global_accuracies(task, test, views))


def test_personalising_without_a_step_is_the_global_network(world):
    task, views, test = task_of(world), views_of(world, Unshifted()), held_out()
    still = replace(RECIPE, learning_rate=1e-30)
    found = list(personalised_accuracies(task, still, test, views))
    assert found == global_accuracies(task, test, views)


def test_personalising_changes_neither_the_clients_nor_the_global_network(world):
    task, views, test = task_of(world), views_of(world, Unshifted()), held_out()
    before = {name: tensor.clone() for name, tensor in task.weights.to_torch_state_dict().items()}
    images = [own.images.clone() for (own,) in world.clients]
    list(personalised_accuracies(task, RECIPE, test, views))
    after = task.weights.to_torch_state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())
    assert all(own.images.equal(kept) for (own,), kept in zip(world.clients, images, strict=True))


def test_an_untested_client_has_no_accuracy(world):
    test = answered([0, 1], [0, 0])
    world = replace(world, clients=[[answered([2, 2], [0, 0])], [answered([0, 2], [0, 0])]])
    views = Views(Unshifted(), 2, Normalisation([0.5], [0.25]), 0)
    first, second = global_accuracies(task_of(world), test, views)
    assert first is None
    assert second in (0.0, 1.0)
