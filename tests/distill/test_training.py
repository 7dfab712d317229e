"""Training takes the steps of stochastic gradient descent; scoring counts and averages."""

import functools
import math
import operator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.augment import Augmentation
from distill.images import LabelledImages
from distill.schedules import Steps
from distill.training import Additions, Recipe, augmented, score, train

PLAIN = Recipe(
    epochs=1,
    batch=256,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)


class Linear(nn.Module):
    """Logits without a bias from the first pixels; it keeps the batches and modes it has seen."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.batches: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(images.detach().clone())
        self.modes.append(self.training)
        return images.flatten(1)[:, : self.weight.shape[1]] @ self.weight.T


def data_of(features: Tensor, labels: list[int], num_classes: int = 2) -> LabelledImages:
    """Images whose first pixels are the features; the rest is 0."""
    images = torch.zeros(len(features), 64)
    images[:, : features.shape[1]] = features
    return LabelledImages(images.view(-1, 1, 8, 8), torch.tensor(labels), num_classes)


def numbered(count: int, first: int = 1) -> LabelledImages:
    """Images whose every pixel is a number from ``first`` on, of class 0."""
    numbers = torch.arange(first, first + count).float().view(-1, 1, 1, 1)
    return LabelledImages(
        numbers.expand(-1, 1, 8, 8).clone(), torch.zeros(count, dtype=torch.int64), 2
    )


def seen(network: Linear) -> list[list[int]]:
    """Returns the number of each image in each batch."""
    return [batch[:, 0, 0, 0].int().tolist() for batch in network.batches]


def random_problem(rng: torch.Generator) -> tuple[Tensor, LabelledImages]:
    features = torch.randn(6, 5, generator=rng)
    return torch.randn(3, 5, generator=rng), data_of(features, [0, 1, 2, 0, 1, 1], 3)


def gradient(weight: Tensor, data: LabelledImages) -> Tensor:
    """The gradient of the mean cross-entropy of softmax regression, (p - y) x."""
    features = data.images.flatten(1)[:, : weight.shape[1]].double()
    target = torch.eye(weight.shape[0], dtype=torch.float64)[data.labels]
    return ((features @ weight.T).softmax(1) - target).T @ features / len(data)


def naive_weights(weight: Tensor, data: LabelledImages, recipe: Recipe) -> Tensor:
    """Momentum descent on all images at once, written out."""
    weight, velocity, rate = (
        weight.double(),
        torch.zeros(weight.shape).double(),
        recipe.learning_rate,
    )
    for epoch in range(recipe.epochs):
        if recipe.decay_after is not None and epoch == recipe.decay_after:
            velocity, rate = torch.zeros(weight.shape).double(), recipe.learning_rate / 10
        slope = gradient(weight, data) + recipe.weight_decay * weight
        velocity = recipe.momentum * velocity + slope
        weight = weight - rate * velocity
    return weight.float()


def test_one_step_goes_down_the_gradient(rng):
    # Both logits are 0, so p = (.5, .5); the image is 2 in its first pixel, of class 0:
    # the slope is (.5 - 1) * 2 = -1 and .5 * 2 = 1, times the step .1.
    network = Linear(torch.zeros(2, 1))
    loss = train(network, data_of(torch.tensor([[2.0]]), [0]), PLAIN, rng)
    torch.testing.assert_close(network.weight.data, torch.tensor([[0.1], [-0.1]]))
    assert loss == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 4},
        {"epochs": 4, "momentum": 0.9},
        {"epochs": 4, "weight_decay": 0.3},
        {"epochs": 6, "momentum": 0.9, "weight_decay": 0.01, "decay_after": 3},
        {"epochs": 3, "momentum": 0.9, "decay_after": 1},
        {"epochs": 3, "momentum": 0.9, "decay_after": 3},
    ],
    ids=str,
)
def test_steps_are_those_of_the_naive_loop(rng, changes):
    weight, data = random_problem(rng)
    recipe, network = replace(PLAIN, learning_rate=0.5, **changes), Linear(weight)
    train(network, data, recipe, rng)
    torch.testing.assert_close(network.weight.data, naive_weights(weight, data, recipe))


def test_momentum_starts_again_at_a_tenth_of_the_step(rng):
    # The loss is linear in the weight where p stays put: with logits beyond doubt and wrong,
    # the slope is 1 (class 1 said, class 0 true). Steps: 1, 1 + .5; then .1 * 1, .1 * 1.5.
    network = Linear(torch.tensor([[-100.0], [100.0]]))
    recipe = replace(PLAIN, epochs=4, learning_rate=1.0, momentum=0.5, decay_after=2)
    train(network, data_of(torch.tensor([[1.0]]), [0]), recipe, rng)
    assert network.weight[1].item() == pytest.approx(100 - 2.5 - 0.25, abs=1e-4)


def test_every_epoch_visits_every_image_once_in_a_new_order(rng):
    network = Linear(torch.zeros(2, 1))
    train(network, numbered(7), replace(PLAIN, epochs=2, batch=3), rng)
    batches = seen(network)
    assert [len(batch) for batch in batches] == [3, 3, 1, 3, 3, 1]
    first, second = (
        functools.reduce(operator.iadd, batches[:3], []),
        functools.reduce(operator.iadd, batches[3:], []),
    )
    assert sorted(first) == sorted(second) == [1, 2, 3, 4, 5, 6, 7]
    assert first != second


def test_a_clip_of_nothing_is_told():
    with pytest.raises(ValueError, match=r"^clip must be > 0, got 0$"):
        replace(PLAIN, clip=0)


def test_images_keep_their_labels(rng):
    # Every pixel of class 0 is negative and of class 1 positive, so the sign is learnt.
    labels = [0, 1] * 5
    features = torch.tensor([[-1.0], [1.0]] * 5)
    network = Linear(torch.zeros(2, 1))
    train(network, data_of(features, labels), replace(PLAIN, batch=2), rng)
    assert score(network, data_of(features, labels))[0] == 1.0


def test_the_loss_is_the_mean_over_the_images_of_the_last_epoch(rng):
    # The step is too small to show, so the loss is that of the weights given.
    weight, data = random_problem(rng)
    recipe = replace(PLAIN, epochs=3, batch=4, learning_rate=1e-12)
    loss = train(Linear(weight), data, recipe, rng)
    assert loss == pytest.approx(score(Linear(weight), data)[1], rel=1e-6)


def test_gradients_are_adjusted_between_backward_pass_and_step(rng):
    weight, data = random_problem(rng)

    def doubled(network: nn.Module) -> None:
        network.weight.grad.mul_(2)

    network = Linear(weight)
    train(network, data, PLAIN, rng, Additions(adjust_gradients=doubled))
    expected = weight - 0.1 * 2 * gradient(weight.double(), data).float()
    torch.testing.assert_close(network.weight.data, expected)


def test_a_longer_gradient_is_scaled_down_after_its_adjustment(rng):
    weight, data = random_problem(rng)

    def doubled(network: nn.Module) -> None:
        network.weight.grad.mul_(2)

    whole = 2 * gradient(weight.double(), data).float()
    recipe = replace(PLAIN, clip=whole.norm().item() / 4)
    network = Linear(weight)
    train(network, data, recipe, rng, Additions(adjust_gradients=doubled))
    torch.testing.assert_close(network.weight.data, weight - 0.1 * whole / 4)


def test_a_shorter_gradient_is_left_alone(rng):
    weight, data = random_problem(rng)
    whole = gradient(weight.double(), data).float()
    network = Linear(weight)
    train(network, data, replace(PLAIN, clip=4 * whole.norm().item()), rng)
    torch.testing.assert_close(network.weight.data, weight - 0.1 * whole)


def test_gradients_are_adjusted_once_a_step(rng):
    calls = []
    additions = Additions(adjust_gradients=lambda network: calls.append(network.weight.grad))
    train(Linear(torch.zeros(2, 1)), numbered(7), replace(PLAIN, epochs=2, batch=3), rng, additions)
    assert len(calls) == 6


def test_every_batch_holds_as_many_replayed_images(rng):
    network = Linear(torch.zeros(2, 1))
    additions = Additions(replayed=numbered(4, first=101))
    train(network, numbered(7), replace(PLAIN, epochs=20, batch=3), rng, additions)
    batches = seen(network)
    assert [len(batch) for batch in batches[:3]] == [6, 6, 2]
    assert all(sum(number > 100 for number in batch) * 2 == len(batch) for batch in batches)
    assert {number for batch in batches for number in batch if number > 100} == {101, 102, 103, 104}


def test_replayed_images_come_with_replacement(rng):
    network = Linear(torch.zeros(2, 1))
    additions = Additions(replayed=numbered(1, first=101))
    train(network, numbered(3), PLAIN, rng, additions)
    assert sorted(seen(network)[0]) == [1, 2, 3, 101, 101, 101]


def test_replayed_images_keep_their_labels(rng):
    # The image 2 of class 0 and the replayed image 1 of class 1, both logits 0: the slope of
    # class 0 is ((.5 - 1) * 2 + .5 * 1) / 2 = -.25, of class 1 the opposite.
    network = Linear(torch.zeros(2, 1))
    replayed = data_of(torch.tensor([[1.0]]), [1])
    data = data_of(torch.tensor([[2.0]]), [0])
    train(network, data, PLAIN, rng, Additions(replayed=replayed))
    torch.testing.assert_close(network.weight.data, torch.tensor([[0.025], [-0.025]]))


def test_an_empty_memory_replays_nothing():
    networks = []
    for replayed in (None, numbered(1).rows(torch.tensor([], dtype=torch.int64))):
        network, rng = Linear(torch.zeros(2, 1)), torch.Generator().manual_seed(3)
        additions = Additions(replayed=replayed)
        train(network, numbered(5), replace(PLAIN, batch=2), rng, additions)
        networks.append(network)
    assert seen(networks[0]) == seen(networks[1])


def test_training_sees_augmented_images(rng):
    network = Linear(torch.zeros(2, 1))
    recipe = replace(PLAIN, augmentation=Augmentation(["cutout"], False))
    train(network, numbered(5), recipe, rng)
    assert (network.batches[0] == 0).flatten(1).any(1).all()


def test_replayed_images_are_augmented_too(rng):
    network = Linear(torch.zeros(2, 1))
    recipe = replace(PLAIN, augmentation=Augmentation(["cutout"], False))
    train(network, numbered(5), recipe, rng, Additions(replayed=numbered(5)))
    assert len(network.batches[0]) == 10
    assert (network.batches[0] == 0).flatten(1).any(1).all()


def test_images_of_a_batch_have_transforms_of_their_own(rng):
    # A crop shifts by int(8 / 8 + .5) = 1 row and int(32 / 8 + .5) = 4 columns at most, either
    # way: 3 * 9 = 27 shifts, which leave 7 to 8 rows and 28 to 32 columns of ones.
    shifted = augmented(torch.ones(200, 1, 8, 32), Augmentation(["crop"], False), rng)
    assert len({tuple(image.flatten().tolist()) for image in shifted}) == 27
    assert shifted.sum((1, 2)).count_nonzero(dim=1).min() == 28
    assert shifted.sum((1, 3)).count_nonzero(dim=1).min() == 7


def test_data_is_left_alone(rng):
    data = numbered(5)
    before = data.images.clone()
    recipe = replace(PLAIN, augmentation=Augmentation(["color", "flip"], True), epochs=4)
    train(Linear(torch.zeros(2, 1)), data, recipe, rng)
    assert torch.equal(data.images, before)


def test_networks_train_in_training_mode_and_are_scored_in_the_other(rng):
    network = Linear(torch.zeros(2, 1)).eval()
    train(network, numbered(2), PLAIN, rng)
    score(network, numbered(2))
    assert network.modes == [True, False]


def test_equal_generators_give_equal_weights():
    weights, start = [], torch.Generator().manual_seed(1)
    weight, data = random_problem(start)
    recipe = replace(PLAIN, epochs=3, batch=2, augmentation=Augmentation(["crop", "color"], False))
    for _ in range(2):
        torch.rand(3)  # the global generator stands elsewhere the second time
        network = Linear(weight)
        train(network, data, recipe, torch.Generator().manual_seed(5), Additions(replayed=data))
        weights.append(network.weight.data)
    assert torch.equal(weights[0], weights[1])


def test_training_leaves_the_global_generator_as_it_was(rng):
    before = torch.get_rng_state()
    weight, data = random_problem(rng)
    recipe = replace(PLAIN, batch=2, augmentation=Augmentation(["crop", "color"], False))
    train(Linear(weight), data, recipe, rng, Additions(replayed=data))
    assert torch.equal(torch.get_rng_state(), before)


def test_score_is_the_share_of_right_answers_and_the_mean_loss():
    # Logits are (x, 0). x = ln 3: p = (3/4, 1/4); x = -ln 3: the reverse. Labels 0, 0, 1, 1:
    # right are the first and the last; losses -ln of 3/4, 1/4, 1/4, 3/4.
    one = math.log(3)
    data = data_of(torch.tensor([[one], [-one], [one], [-one]]), [0, 0, 1, 1])
    accuracy, loss = score(Linear(torch.tensor([[1.0], [0.0]])), data)
    assert accuracy == 0.5
    assert loss == pytest.approx(-(math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_scores_of_many_images_cover_all_of_them():
    # 1,001 images, which no chunk divides; the last 250 are wrong.
    features = torch.ones(1001, 1)
    features[-250:] = -1
    network = Linear(torch.tensor([[1.0], [-1.0]]))
    accuracy, loss = score(network, data_of(features, [0] * 1001))
    assert accuracy == 751 / 1001
    expected = (751 * math.log(1 + math.exp(-2)) + 250 * math.log(1 + math.exp(2))) / 1001
    assert loss == pytest.approx(expected, rel=1e-5)


def test_scoring_changes_nothing(rng):
    weight, data = random_problem(rng)
    network = Linear(weight)
    assert score(network, data) == score(network, data)
    assert torch.equal(network.weight.data, weight)
    assert network.weight.grad is None


def test_training_on_nothing_is_refused(rng):
    with pytest.raises(ValueError, match=r"^data must hold at least one image, got none$"):
        train(Linear(torch.zeros(2, 1)), numbered(0), PLAIN, rng)


def test_scoring_on_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^data must hold at least one image, got none$"):
        score(Linear(torch.zeros(2, 1)), numbered(0))


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("epochs", 0, ">= 1"),
        ("batch", 0, ">= 1"),
        ("learning_rate", 0.0, "> 0"),
        ("momentum", -0.1, r"in \[0, 1\)"),
        ("weight_decay", -0.1, ">= 0"),
        ("decay_after", 0, ">= 1"),
    ],
)
def test_values_below_their_range_are_refused(field, value, rule):
    with pytest.raises(ValueError, match=rf"^{field} must be {rule}, got {value}$"):
        replace(PLAIN, **{field: value})


@pytest.mark.parametrize("field", ["epochs", "batch"])
def test_numbers_of_epochs_and_images_are_whole(field):
    with pytest.raises(TypeError, match=rf"^{field} must be a whole number, got 1\.5$"):
        replace(PLAIN, **{field: 1.5})


def test_momentum_of_one_is_refused():
    with pytest.raises(ValueError, match=r"^momentum must .* got 1\.0"):
        replace(PLAIN, momentum=1.0)


@pytest.mark.parametrize("value", ["151", 0.5])
def test_a_decay_that_no_epoch_equals_is_refused(value):
    with pytest.raises(TypeError, match=r"^decay_after must be a whole number, got "):
        replace(PLAIN, decay_after=value)


def test_a_squared_loss_pulls_on_scores_or_centred_classes():
    # One image (1, 0), W = 0. Scores (2, -4): the loss (2^2 + 4^2) falls along -2 * (2, -4), so a
    # step of .1 gives (.4, -.8). Class 0 of two, centred: (.5, -.5) / sqrt(.2) = (1.118, -1.118).
    data = data_of(torch.tensor([[1.0, 0.0]]), [0])
    scored = LabelledImages(data.images, data.labels, 2, torch.tensor([[2.0, -4.0]]))
    squared = replace(PLAIN, loss="squared")
    for given, expected in ((scored, [0.4, -0.8]), (data, [0.2236, -0.2236])):
        network = Linear(torch.zeros(2, 2))
        train(network, given, squared, torch.Generator())
        assert network.weight[:, 0].tolist() == pytest.approx(expected, abs=1e-4)


def test_cross_entropy_takes_distributions_and_leaves_scores():
    # At W = 0 both probabilities are .5. Distribution (.9, .1): slope (-.4, .4), a step of .1 gives
    # (.04, -.04); scores are no distribution, so class 1 counts: slope (.5, -.5).
    data = data_of(torch.tensor([[1.0, 0.0]]), [1])
    for targets, expected in (([0.9, 0.1], [0.04, -0.04]), ([2.0, -4.0], [-0.05, 0.05])):
        network = Linear(torch.zeros(2, 2))
        given = LabelledImages(data.images, data.labels, 2, torch.tensor([targets]))
        train(network, given, PLAIN, torch.Generator())
        assert network.weight[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("optimiser", "expected"), [("adam", 2.1), ("adamw", 2.0)])
def test_adam_steps_by_its_rate_and_adamw_decays_beside_it(optimiser, expected):
    # Class 1 of W = ((2, 0), (2, 0)) at (1, 0): the loss pulls W[1, 0] up and Adam's first step is
    # its rate, .1. With decay .5 Adam adds .5 * 2 to the slope -.5, which turns positive: it
    # would fall, so decay is .1 here: -.5 + .2 < 0, up to 2.1. AdamW multiplies by 1 - .1 * .1
    # first: 1.98 + .1 = 2.08; with decay .5 it is 2 * .95 + .1 = 2.0.
    decay = 0.1 if optimiser == "adam" else 0.5
    network = Linear(torch.tensor([[2.0, 0.0], [2.0, 0.0]]))
    recipe = replace(PLAIN, optimiser=optimiser, weight_decay=decay)
    train(network, data_of(torch.tensor([[1.0, 0.0]]), [1]), recipe, torch.Generator())
    assert network.weight[1, 0].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("field", "kind"), [("optimiser", "lamb"), ("loss", "hinge")])
def test_unknown_optimisers_and_losses_are_refused(field, kind):
    with pytest.raises(ValueError, match=rf"unknown {field} '{kind}'; known:"):
        replace(PLAIN, **{field: kind})


def test_a_schedule_sets_the_step_of_each_epoch_and_keeps_the_momentum(rng):
    # The slope stays 1, as above. Middles of 4 epochs: 1/8, 3/8, 5/8, 7/8; after 1/2 the step is
    # a fifth: 1, 1.5, .2 * 1.75, .2 * 1.875.
    network = Linear(torch.tensor([[-100.0], [100.0]]))
    recipe = replace(PLAIN, epochs=4, learning_rate=1.0, momentum=0.5, schedule=Steps([0.5], 0.2))
    train(network, data_of(torch.tensor([[1.0]]), [0]), recipe, rng)
    assert network.weight[1].item() == pytest.approx(100 - 2.5 - 0.35 - 0.375, abs=1e-4)


def test_a_share_of_the_batches_is_mixed(rng):
    # Half of the batches are mixed, half of these with the other image, and of their boxes those
    # with int(8 * side) >= 2 aren't empty, 15 of 16: .5 * .5 * 15/16 = .234, give or take .021.
    recipe = replace(PLAIN, epochs=400, batch=2, learning_rate=1e-12, cutmix=0.5)
    network = Linear(torch.zeros(2, 1))
    train(network, numbered(2), recipe, rng)
    mixed = [bool((batch[0] != batch[0, 0, 0, 0]).any()) for batch in network.batches]
    assert 0.16 < sum(mixed) / 400 < 0.3


def test_mixed_images_have_the_classes_of_their_pixels(rng):
    # Pixels of class 0 are 1, of class 1 -1: a mean of m is a share of (1 + m) / 2 of class 0.
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    for _ in range(9):
        found, soft = replace(PLAIN, cutmix=1.0).seen(images, torch.tensor([0, 1]), 2, rng)
        means = found.mean((1, 2, 3))
        torch.testing.assert_close(soft, torch.stack([1 + means, 1 - means], 1) / 2)


def test_distributions_are_mixed_as_they_are(rng):
    images = torch.tensor([1.0, -1.0]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    given = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
    found, soft = replace(PLAIN, cutmix=1.0).seen(images, given, 2, rng)
    share = (1 + found.mean((1, 2, 3))).unsqueeze(1) / 2  # of the first image
    torch.testing.assert_close(soft, share * given[0] + (1 - share) * given[1])


def test_without_a_mixture_nothing_is_drawn_for_it(rng):
    images, labels = numbered(3).images, torch.tensor([0, 1, 0])
    state = rng.get_state()
    seen_images, wanted = PLAIN.seen(images, labels, 2, rng)
    assert seen_images is images
    assert wanted is labels
    assert torch.equal(rng.get_state(), state)


def test_a_mixture_is_refused_with_a_squared_loss():
    with pytest.raises(ValueError, match=r"^cutmix must be 0 with loss=squared, got 0\.5$"):
        replace(PLAIN, loss="squared", cutmix=0.5)


def test_two_ways_to_change_the_step_are_refused():
    with pytest.raises(ValueError, match=r"^decay_after must be null with a schedule, got 3$"):
        replace(PLAIN, decay_after=3, schedule=Steps([0.5], 0.2))


def test_a_share_of_mixed_batches_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"^cutmix must be in \[0, 1\], got 1\.5$"):
        replace(PLAIN, cutmix=1.5)


def test_training_in_bfloat16_stays_near_that_in_float32(rng):
    weight, data = random_problem(rng)
    exact, rough = Linear(weight), Linear(weight)
    recipe = replace(PLAIN, epochs=5)
    train(exact, data, recipe, rng)
    train(rough, data, replace(recipe, precision="bfloat16"), rng)
    assert rough.weight.dtype == torch.float32
    moved = exact.weight - weight
    # An operand is rounded by 2^-9 of itself at most; the gradient cancels some of what it sums.
    assert 1e-4 < (rough.weight - exact.weight).norm() / moved.norm() < 3e-2


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="unknown precision 'half'; known: bfloat16, float32"):
        replace(PLAIN, precision="half")


def test_a_further_loss_is_added_and_knows_what_is_wanted_of_the_images(rng):
    # Both logits are 0: the slope is (.5 - 1) 2 = -1 and 1, and that of the further loss, the
    # weight of the image's class times 3, is 3 for class 0.
    network = Linear(torch.zeros(2, 1))

    def forward(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        return network(images), 3 * network.weight[classes].sum()

    further = Additions(forward=forward)
    loss = train(network, data_of(torch.tensor([[2.0]]), [0]), PLAIN, rng, further)
    torch.testing.assert_close(network.weight.data, torch.tensor([[-0.2], [-0.1]]))
    assert loss == pytest.approx(math.log(2))
