"""Evaluation trains networks from scratch on the small set and scores them on real images."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from distill.augment import Augmentation
from distill.evaluate import Evaluation, Race
from distill.images import LabelledImages
from distill.networks import MLP, Architecture, ImageShape, Network, fresh
from distill.rng import derive
from distill.training import Recipe

RECIPE = Recipe(
    epochs=4,
    batch=3,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation(["crop", "color"], False),
)
STILL = replace(RECIPE, epochs=1, learning_rate=1e-30)


@final
@dataclass(frozen=True)
class Kept(Architecture):
    """An MLP that keeps its networks and the weights they started from."""

    networks: list[Network] = field(default_factory=list)
    starts: list[Tensor] = field(default_factory=list)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        network = MLP(4, 1).build(image_shape, num_classes)
        self.networks.append(network)
        self.starts.append(weights(network))
        return network


def weights(network: Network) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def images(count: int, seed: int, apart: float = 0.0) -> LabelledImages:
    """Random images; the two classes lie ``apart`` in every pixel, around 0."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    noise = torch.randn(count, 1, 8, 8, generator=rng)
    return LabelledImages(noise + apart * (labels.view(-1, 1, 1, 1) - 0.5), labels, 2)


def accuracies(evaluation: Evaluation, architecture: Architecture, seed: int = 0) -> list[float]:
    return list(evaluation.accuracies(images(6, 1), images(200, 2), architecture, seed))


@pytest.mark.parametrize("networks", [1, 3])
def test_every_network_has_an_accuracy(networks):
    found = accuracies(Evaluation(RECIPE, networks), MLP(4, 1))
    assert len(found) == networks
    assert all(0 <= accuracy <= 1 for accuracy in found)


def test_networks_are_trained_one_at_a_time():
    kept = Kept()
    found: Iterator[float] = Evaluation(RECIPE, 3).accuracies(images(6, 1), images(9, 2), kept, 0)
    assert len(kept.networks) == 0
    next(found)
    assert len(kept.networks) == 1


def test_equal_seeds_give_equal_accuracies():
    first = accuracies(Evaluation(RECIPE, 3), MLP(4, 1))
    torch.rand(3)  # the global generator stands elsewhere the second time
    assert accuracies(Evaluation(RECIPE, 3), MLP(4, 1)) == first


def test_the_global_generator_stays_as_it_was():
    before = torch.get_rng_state()
    accuracies(Evaluation(RECIPE, 2), MLP(4, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_of_two_small_sets_under_one_seed_start_equal():
    one, other = Kept(), Kept()
    for kept, small in ((one, images(6, 1)), (other, images(10, 7))):
        list(Evaluation(RECIPE, 2).accuracies(small, images(9, 2), kept, 0))
    assert all(torch.equal(a, b) for a, b in zip(one.starts, other.starts, strict=True))


def test_orders_and_transforms_under_one_seed_are_equal():
    one, other = Kept(), Kept()
    for kept in (one, other):
        accuracies(Evaluation(RECIPE, 2), kept)
    for a, b, start in zip(one.networks, other.networks, one.starts, strict=True):
        assert torch.equal(weights(a), weights(b))
        assert not torch.equal(weights(a), start)


def test_a_network_does_not_depend_on_how_many_are_trained():
    one, other = Kept(), Kept()
    accuracies(Evaluation(RECIPE, 1), one)
    accuracies(Evaluation(RECIPE, 3), other)
    assert torch.equal(weights(one.networks[0]), weights(other.networks[0]))


def test_networks_of_one_seed_differ():
    kept = Kept()
    accuracies(Evaluation(RECIPE, 2), kept)
    assert not torch.equal(kept.starts[0], kept.starts[1])


def test_another_seed_gives_other_networks():
    one, other = Kept(), Kept()
    accuracies(Evaluation(RECIPE, 1), one, seed=1)
    accuracies(Evaluation(RECIPE, 1), other, seed=2)
    assert not torch.equal(one.starts[0], other.starts[0])


def test_accuracy_is_that_on_the_test_images():
    # Two classes that lie 3 apart in every pixel are learnt, and their mirror image is not.
    recipe = replace(RECIPE, epochs=30, augmentation=Augmentation([], False))
    small, test = images(10, 1, apart=3.0), images(40, 2, apart=3.0)
    swapped = LabelledImages(test.images, 1 - test.labels, 2)
    evaluation = Evaluation(recipe, 2)
    assert list(evaluation.accuracies(small, test, MLP(16, 1), 0)) == [1.0, 1.0]
    assert list(evaluation.accuracies(small, swapped, MLP(16, 1), 0)) == [0.0, 0.0]


def test_accuracy_of_an_untrained_network_is_its_own():
    kept, test = Kept(), images(200, 2)
    (found,) = Evaluation(STILL, 1).accuracies(images(6, 1), test, kept, 0)
    right = kept.networks[0](test.images).argmax(1) == test.labels
    assert found == pytest.approx(right.double().mean().item())


def test_classes_without_an_image_keep_their_logits():
    kept = Kept()
    small = LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 3]), 5)
    list(Evaluation(STILL, 1).accuracies(small, small, kept, 0))
    assert kept.networks[0].classifier.out_features == 5


@pytest.mark.parametrize(("step", "said"), [(1e30, 2), (0.01, 0)])
def test_a_network_that_diverges_is_told(step, said, caplog):
    recipe = replace(RECIPE, learning_rate=step, epochs=3)
    accuracies(Evaluation(recipe, 2), MLP(4, 1))
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == said
    assert all("must stay finite, got nan with a step size of 1e+30" in text for text in warnings)


def test_no_network_is_refused():
    with pytest.raises(ValueError, match=r"^evaluation\.networks must be >= 1, got 0$"):
        Evaluation(RECIPE, 0)


def test_training_on_nothing_is_refused():
    nothing = images(0, 1)
    with pytest.raises(ValueError, match=r"^data must hold at least one image, got none$"):
        list(Evaluation(RECIPE, 1).accuracies(nothing, images(9, 2), MLP(4, 1), 0))


def test_equal_updates_take_as_many_steps_whatever_the_images():
    # 10 updates in batches of 3: 6 images make 2 batches, so 5 epochs; 30 make 10, so 1 epoch;
    # 9 make 3, so 3 epochs and a part of the fourth.
    evaluation = Evaluation(replace(RECIPE, decay_after=2), 1, updates=10)
    assert [evaluation.recipe_for(n, ()).epochs for n in (6, 30, 9)] == [5, 1, 4]
    assert [evaluation.recipe_for(n, ()).decay_after for n in (6, 30, 9)] == [2, 1, 2]
    assert Evaluation(RECIPE, 1, updates=10).recipe_for(6, ()).decay_after is None


@pytest.mark.parametrize("updates", [1, 2, 4, 10])
def test_updates_end_within_an_epoch(updates):
    # 9 images in batches of 3 are three steps an epoch.
    steps = list[object]()
    handle = register_optimizer_step_post_hook(lambda optimiser, *_: steps.append(optimiser))
    list(Evaluation(RECIPE, 2, updates).accuracies(images(9, 1), images(9, 2), MLP(4, 1), 0))
    handle.remove()
    assert len(steps) == 2 * updates


def test_a_learned_step_size_takes_the_place_of_the_recipes():
    evaluation = Evaluation(RECIPE, 1, learned_rate=True)
    assert evaluation.recipe_for(6, (0.2, 0.4)).learning_rate == pytest.approx(0.3)
    assert evaluation.recipe_for(6, ()).learning_rate == 0.05
    assert Evaluation(RECIPE, 1).recipe_for(6, (0.2, 0.4)).learning_rate == 0.05


def test_learned_step_sizes_reach_the_training():
    kept = Kept()
    evaluation = Evaluation(RECIPE, 1, learned_rate=True)
    list(evaluation.accuracies(images(6, 1), images(9, 2), kept, 0, (1e-30,)))
    torch.testing.assert_close(weights(kept.networks[0]), kept.starts[0], rtol=0, atol=1e-12)


def test_no_updates_are_refused():
    with pytest.raises(ValueError, match=r"evaluation\.updates must be >= 1, got 0"):
        Evaluation(RECIPE, 1, updates=0)


class Answers:
    """Says how accurate a network is, look after look."""

    def __init__(self, *accuracies: float) -> None:
        self.left = list(accuracies)

    def __call__(self, *_: object) -> tuple[float, float]:
        return self.left.pop(0), 0.0


def race_to(accuracy: float, monkeypatch, *looks: float) -> Race:
    monkeypatch.setattr("distill.evaluate.score", Answers(*looks))
    data = images(30, seed=0)
    network = fresh(MLP(4, 1), data.image_shape, data.num_classes, derive(0, "network"))
    race = Race(network, accuracy, data)
    recipe = replace(RECIPE, epochs=5, batch=5)  # 30 updates
    race.run(data, recipe, derive(0, "training"))
    return race


def test_a_race_ends_at_the_first_look_at_the_accuracy(monkeypatch):
    race = race_to(0.8, monkeypatch, 0.7, 0.8, 0.9)
    assert (race.won, race.updates) == (True, 20)
    assert race.seconds > 0


def test_a_race_that_is_not_won_says_so(monkeypatch):
    race = race_to(0.95, monkeypatch, 0.7, 0.8, 0.9)
    assert (race.won, race.updates) == (False, 30)
