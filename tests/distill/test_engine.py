"""Distilling follows the objective's gradient, and its bytes depend on task and seed alone."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.condenser import Condenser, State, Step, Task, condense
from distill.coresets import Noise, Random
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, Labels, SoftLabels
from distill.learned import Learned
from distill.network_sources import Fresh
from distill.networks import MLP, ConvNet, Network, fresh
from distill.objectives.base import Objective, Pulling
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching, Statistic
from distill.objectives.real_loss import RealLoss
from distill.objectives.unrolled import Unrolled
from distill.optimisers import SGD, Adam
from distill.parameterisations.base import Budget, Parameterisation, Parameters, Shape, Source
from distill.parameterisations.pixels import Pixels
from distill.real import ClassBatch, RealData
from distill.rng import derive
from distill.synthetic import SyntheticSet

# black is (0 - .5) / .25 = -2, white is (1 - .5) / .25 = 2
HALF = Normalisation([0.5], [0.25])
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
PLAIN = Augmentation([], False)
DM = Distillation(
    objective=Matching(DistributionMatching(), Fresh(ConvNet(4, 1), 2), DSA, 4, None),
    parameterisation=Parameterisation(Pixels(False)),
    labels=HardLabels(),
    start=Random(),
    optimiser=SGD(1.0, 0.5),
    iterations=5,
)


def dm(**changes: Any) -> Distillation:
    """Distribution matching with other fields of its objective."""
    return replace(DM, objective=replace(DM.objective, **changes))


@final
@dataclass(frozen=True)
class Seen(Statistic):
    """Distribution matching that keeps what it was shown."""

    networks: list[Network] = field(default_factory=list)
    real: list[ClassBatch] = field(default_factory=list)
    synthetic: list[ClassBatch] = field(default_factory=list)
    leaves: list[bool] = field(default_factory=list)

    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> tuple[float, Tensor]:
        self.networks.append(network)
        self.leaves.append(synthetic.images.is_leaf and synthetic.images.requires_grad)
        self.real.append(replace(real, images=real.images.clone()))
        self.synthetic.append(replace(synthetic, images=synthetic.images.detach().clone()))
        return DistributionMatching().pull(network, real, synthetic, rng)


@final
@dataclass(frozen=True)
class Sum(Objective):
    """The sum of all synthetic pixels times a factor, so that every pixel's slope is known."""

    factor: float = 1.0

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        if 99.0 in rates:
            raise ValueError("method.rate must not be 99")

    def begin(self, real: RealData, state: State) -> Pulling:
        return Summing(self.factor, state.get("taken", 0))


class Summing(Pulling):
    """It keeps how many steps it took."""

    def __init__(self, factor: float, taken: int) -> None:
        self.factor, self.taken = factor, taken

    def step(self, index: int, small: Learned) -> float:
        assert index == self.taken
        self.taken += 1
        rows = torch.arange(len(small))
        images = small.images(rows)
        small.pull(rows, torch.full_like(images, self.factor))
        return images.sum().item() * self.factor

    def state(self) -> State:
        return {"taken": self.taken}


@final
@dataclass(frozen=True)
class Whole(Condenser):
    """All real images of the classes wanted: a start that leaves nothing to learn."""

    @property
    def makes_pixels(self) -> bool:
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        images = torch.cat([task.real.of_class(label) for label in task.classes])
        data = LabelledImages(images, task.labels, task.real.num_classes)
        small = SyntheticSet(data, task.normalisation, "real")
        yield Step(1, 1, None, dict, lambda: small)


@final
@dataclass(frozen=True)
class Halves(Source):
    """Keeps half of every pixel: images move twice as far as the numbers do."""

    @property
    def is_plain(self) -> bool:
        return False

    def rows(self, budget: Budget, shape: Shape) -> Tensor:
        return budget.counts

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        return {"halves": first / 2}

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        return parameters["halves"][index] * 2

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        pass


def task_of(
    counts: list[int],
    seed: int = 0,
    shape: tuple[int, int, int] = (1, 8, 8),
    per_class: list[int] | None = None,
) -> Task:
    """Random images in mixed order; every class lies a little above the one before."""
    rng = torch.Generator().manual_seed(99)
    sizes = torch.tensor([6] * len(counts) if per_class is None else per_class)
    labels = torch.arange(len(counts)).repeat_interleave(sizes)
    labels = labels[torch.randperm(len(labels), generator=rng)]
    images = torch.randn(len(labels), *shape, generator=rng) + labels.view(-1, 1, 1, 1) * 0.3
    normalisation = Normalisation([0.5] * shape[0], [0.25] * shape[0])
    real = LabelledImages(images, labels, len(counts))
    return Task(real, torch.tensor(counts), normalisation, seed)


def images_of(method: Distillation, task: Task) -> Tensor:
    return condense(method, task).data.images


def images_of_start(task: Task) -> Tensor:
    """Returns the images from which distilling the task starts."""
    return condense(Random(), task).data.images


def through_a_file(state: State) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(dict(state), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(method: Distillation, task: Task, state: State) -> SyntheticSet:
    *_, last = method.steps(task, state)
    return last.result()


def test_the_gradient_is_that_of_plain_autograd():
    # One step of size 1 without momentum: start - end is the gradient. All real images are in
    # the batch, so only the transforms of the two classes are drawn before it matters.
    task, seen = task_of([2, 3]), Seen()
    method = dm(statistic=seen, real_batch=9)
    method = replace(method, optimiser=SGD(1.0, 0.0), iterations=1)
    start, end = images_of_start(task), images_of(method, task)
    rng, loss, pixels = derive(0, "step", 0), torch.zeros(()), start.clone().requires_grad_()
    for label, images in enumerate(torch.split(pixels, [2, 3])):
        draw = DSA.draw(1, (8, 8), rng)
        target = seen.networks[0].embed(draw(task.real.of_class(label))).mean(0)
        gap = target - seen.networks[0].embed(draw(images)).mean(0)
        loss = loss + gap.dot(gap)
    (gradient,) = torch.autograd.grad(loss, pixels)
    torch.testing.assert_close(start - end, gradient, rtol=1e-4, atol=1e-5)
    assert gradient.flatten(1).norm(dim=1).min() > 0.01


@pytest.mark.parametrize("family", DSA.families)
def test_gradients_flow_through_every_transform(family):
    method, task = dm(augmentation=Augmentation([family], True)), task_of([1, 1])
    moved = images_of(replace(method, iterations=1), task) - images_of_start(task)
    assert moved.flatten(1).norm(dim=1).min() > 0


def test_steps_are_those_of_momentum():
    # The slope is 2: after three steps of .1 with momentum .5 the pixels fell by
    # .1 * 2 * (1 + 1.5 + 1.75) = .85.
    method = replace(DM, objective=Sum(2.0), optimiser=SGD(0.1, 0.5), iterations=3)
    task = task_of([1, 2])
    torch.testing.assert_close(images_of(method, task), images_of_start(task) - 0.85)


def test_cotangents_on_images_become_gradients_of_what_is_kept():
    # Images are twice the numbers, so the numbers' slope is 2 and an image moves by 4.
    method = replace(DM, objective=Sum(), parameterisation=Parameterisation(Halves()), iterations=1)
    task = task_of([1, 2])
    small = condense(method, task)
    torch.testing.assert_close(small.data.images, images_of_start(task) - 4)
    torch.testing.assert_close(small.code.parameters["halves"], small.data.images / 2)
    assert not small.code.parameters["halves"].requires_grad


def test_a_set_of_pixels_is_kept_as_its_images_alone():
    assert condense(DM, task_of([2, 1])).code is None


@pytest.mark.parametrize(("factor", "moved"), [(3.0, 0.25), (-3.0, -0.25), (0.001, 0.001)])
def test_a_gradient_is_clipped_to_a_norm_over_all_images(factor, moved):
    # 4 images of 64 pixels: a norm of 16 |factor|. Clipped to 4, every pixel's slope is 4 / 16;
    # a norm of 0.016 stays.
    method = replace(DM, objective=Sum(factor), clip=4.0, iterations=1)
    task = task_of([2, 2])
    torch.testing.assert_close(images_of(method, task), images_of_start(task) - moved)


def test_gradients_of_a_step_do_not_reach_the_next():
    # Without momentum three steps of 1 go three times as far as one.
    method = replace(DM, objective=Sum(), optimiser=SGD(1.0, 0.0), iterations=3)
    task = task_of([2, 1])
    torch.testing.assert_close(images_of(method, task), images_of_start(task) - 3)


def test_a_slope_of_zero_leaves_the_start():
    task = task_of([2, 1])
    assert torch.equal(images_of(replace(DM, objective=Sum(0.0)), task), images_of_start(task))


def test_real_and_synthetic_images_of_a_class_share_their_transform():
    # A set of all real images has no loss under any transform that the two sides share. The
    # slope is zero too, so the set stays where it is.
    method = replace(dm(real_batch=9), start=Whole(), iterations=12)
    losses = [step.loss for step in method.steps(task_of([6, 6]))]
    assert max(losses) < 1e-9


def test_every_class_and_step_has_a_transform_of_its_own():
    # All images are ones, and cutout zeros a square somewhere else for each class and step.
    real = LabelledImages(torch.ones(12, 1, 8, 8), torch.arange(12) % 4, 4)
    task, seen = Task(real, torch.tensor([2, 2, 2, 2]), HALF, 0), Seen()
    method = dm(statistic=seen, augmentation=Augmentation(["cutout"], False))
    condense(replace(method, optimiser=SGD(1e-30, 0.0), iterations=4), task)
    holes = {tuple((image == 0).flatten().tolist()) for b in seen.real for image in b.images}
    shared = [
        {tuple((image == 0).flatten().tolist()) for image in both.images[both.groups == label]}
        for step in zip(seen.real, seen.synthetic, strict=True)
        for both in step
        for label in range(4)
    ]
    assert all(len(hole) == 1 for hole in shared)
    assert len(holes) > 10


def test_transforms_are_drawn_for_the_size_of_the_images():
    # Images of 8 x 32 ones move by int(32 / 8 + .5) = 4 columns and one row at most.
    real = LabelledImages(torch.ones(4, 1, 8, 32), torch.arange(4), 4)
    task, seen = Task(real, torch.tensor([1, 1, 1, 1]), HALF, 0), Seen()
    method = dm(statistic=seen, augmentation=Augmentation(["crop"], False))
    condense(replace(method, optimiser=SGD(1e-30, 0.0), iterations=20), task)
    shifted = torch.cat([batch.images for batch in seen.real])
    assert shifted.sum((1, 2)).count_nonzero(dim=1).min() == 28
    assert shifted.sum((1, 3)).count_nonzero(dim=1).min() == 7


def test_the_statistic_sees_a_leaf():
    seen = Seen()
    condense(dm(statistic=seen), task_of([1, 1]))
    assert seen.leaves == [True] * 5


def test_real_batches_are_drawn_anew_from_their_class_without_replacement():
    task, seen = task_of([1, 2, 1]), Seen()
    condense(replace(dm(statistic=seen, augmentation=PLAIN), iterations=6), task)
    rows_seen = set()
    for batch in seen.real:
        same = batch.images.unsqueeze(1) == task.real.images.unsqueeze(0)
        rows = same.flatten(2).all(2).int().argmax(1)
        assert torch.equal(task.real.images[rows], batch.images)
        assert torch.equal(task.real.labels[rows], batch.groups)
        assert batch.groups.bincount().tolist() == [4, 4, 4]
        assert len(set(rows.tolist())) == 12
        rows_seen |= set(rows.tolist())
    assert len(rows_seen) == 18


def test_a_class_with_fewer_real_images_gives_all_it_has():
    task, seen = task_of([1, 1], per_class=[2, 9]), Seen()
    condense(dm(statistic=seen), task)
    assert [batch.groups.tolist() for batch in seen.real] == [[0, 0, 1, 1, 1, 1]] * 5


def test_synthetic_images_are_shown_with_the_row_of_their_class():
    # Classes 0 and 2 get images: rows 0 and 1 of the batch.
    task, seen = task_of([2, 0, 3]), Seen()
    condense(dm(statistic=seen), task)
    assert seen.synthetic[0].groups.tolist() == [0, 0, 1, 1, 1]
    assert (seen.synthetic[0].classes, seen.real[0].classes) == (2, 2)


def test_a_network_serves_its_steps_and_is_replaced_by_a_fresh_one():
    seen = Seen()
    condense(dm(statistic=seen), task_of([1, 1]))
    names = [id(network) for network in seen.networks]
    assert [names.index(name) for name in names] == [0, 0, 2, 2, 4]
    first, second, third = (seen.networks[i].embedding[0].weight for i in (0, 2, 4))
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_networks_are_those_of_the_architecture_at_their_initial_weights():
    seen = Seen()
    condense(dm(statistic=seen), task_of([1, 1]))
    expected = fresh(ConvNet(4, 1), (1, 8, 8), 2, derive(0, "network", 1))
    for ours, theirs in zip(seen.networks[3].parameters(), expected.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_gradient_reaches_neither_networks_nor_real_images():
    task, seen = task_of([1, 1]), Seen()
    before = task.real.images.clone()
    condense(dm(statistic=seen), task)
    for network in seen.networks:
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(batch.images.requires_grad for batch in seen.real)
    assert torch.equal(task.real.images, before)


def test_the_loss_of_a_step_is_the_objectives():
    # ten images of 64 pixels, all 1
    real = LabelledImages(torch.ones(10, 1, 8, 8), torch.zeros(10, dtype=torch.int64), 1)
    first = next(replace(DM, objective=Sum()).steps(Task(real, torch.tensor([10]), HALF, 0)))
    assert first.loss == 640.0


def test_distribution_matching_comes_closer_to_the_real_means():
    task = task_of([2, 2], per_class=[20, 20])
    method = replace(dm(augmentation=PLAIN, real_batch=20), start=Noise(), iterations=40)
    network = fresh(ConvNet(4, 1), (1, 8, 8), 2, torch.Generator().manual_seed(1234))
    real = ClassBatch(task.real.images, task.real.labels, torch.tensor([0, 1]))

    def loss(images: Tensor) -> float:
        seen = ClassBatch(images.clone().requires_grad_(), task.labels, real.labels)
        return DistributionMatching().pull(network, real, seen, torch.Generator())[0]

    start = condense(Noise(), task).data.images
    assert loss(images_of(method, task)) < loss(start) / 4


@pytest.mark.parametrize("augmentation", [DSA, PLAIN], ids=["dsa", "none"])
def test_equal_seeds_give_equal_bytes(augmentation):
    method, runs = dm(augmentation=augmentation), []
    for _ in range(2):
        torch.rand(3)  # the global generator stands elsewhere the second time
        runs.append(images_of(method, task_of([2, 1], seed=7)))
    assert torch.equal(runs[0], runs[1])


def test_another_seed_gives_other_bytes_from_the_same_start():
    one, other = (images_of(replace(DM, start=Whole()), task_of([6, 6], seed=s)) for s in (1, 2))
    assert not torch.equal(one, other)


def test_the_global_generator_stays_as_it_was():
    before = torch.get_rng_state()
    condense(DM, task_of([2, 1]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_resuming_from_any_step_gives_the_bytes_of_the_unbroken_run(done):
    task = task_of([2, 1])
    states = {step.done: step.state() for step in DM.steps(task)}
    assert torch.equal(resumed(DM, task, states[done]).data.images, images_of(DM, task))


@pytest.mark.parametrize("done", [1, 2, 3, 4])
def test_resuming_from_a_file_gives_the_bytes_of_the_unbroken_run(done):
    task = task_of([2, 1])
    states = {step.done: through_a_file(step.state()) for step in DM.steps(task)}
    assert torch.equal(resumed(DM, task, states[done]).data.images, images_of(DM, task))


def test_resuming_keeps_the_moments_of_adam():
    task, method = task_of([2, 1]), replace(DM, optimiser=Adam(0.1))
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    assert torch.equal(resumed(method, task, states[2]).data.images, images_of(method, task))


def test_resuming_from_the_last_step_gives_the_finished_set():
    task = task_of([2, 1])
    *_, last = DM.steps(task)
    small = resumed(DM, task, through_a_file(last.state()))
    assert torch.equal(small.data.images, last.result().data.images)


def test_resuming_twice_from_one_state_gives_equal_bytes():
    task = task_of([2, 1])
    state = next(DM.steps(task)).state()
    first, second = (resumed(DM, task, state).data.images for _ in range(2))
    assert torch.equal(first, second)


def test_a_state_does_not_change_with_later_steps():
    steps = DM.steps(task_of([2, 1]))
    state = next(steps).state()
    kept = through_a_file(state)
    list(steps)
    assert torch.equal(state["code"]["pixels"], kept["code"]["pixels"])
    momentum, before = (s["optimiser"]["state"][0]["momentum_buffer"] for s in (state, kept))
    assert torch.equal(momentum, before)


def test_a_result_does_not_change_with_later_steps():
    steps = DM.steps(task_of([2, 1]))
    images = next(steps).result().data.images
    before = images.clone()
    list(steps)
    assert torch.equal(images, before)
    assert not images.requires_grad


def test_a_resumed_run_does_not_start_again():
    task = task_of([2, 1])
    state = next(DM.steps(task)).state()
    assert [step.done for step in DM.steps(task, state)] == [2, 3, 4, 5]


def test_every_step_says_how_many_were_taken_and_how_many_there_are():
    steps = [(step.done, step.total) for step in DM.steps(task_of([2, 1]))]
    assert steps == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("counts", "per_class"),
    [
        ([3, 1, 2], [6, 6, 6]),
        ([2, 0, 1], [6, 6, 6]),
        ([0, 2, 1], [0, 6, 6]),
        ([1, 1, 1], [1, 9, 2]),
    ],
    ids=str,
)
def test_classes_may_be_unequal_and_missing(counts, per_class):
    small = condense(DM, task_of(counts, per_class=per_class))
    assert small.data.counts.tolist() == counts
    assert small.data.labels.tolist() == sorted(small.data.labels.tolist())
    assert small.data.images.isfinite().all()


def test_images_of_a_class_follow_the_mean_of_their_own_class():
    # Class 1 is absent, classes 0 and 2 are constants -1 and 1; the embedding of an image by
    # one linear layer and ReLU still tells them apart, so noise moves to the right side.
    values = torch.tensor([-1.0, 1.0]).repeat(6)
    real = LabelledImages(
        values.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone(), torch.tensor([0, 2]).repeat(6), 3
    )
    task = Task(real, torch.tensor([2, 0, 1]), HALF, 0)
    method = dm(networks=Fresh(MLP(32, 1), 1), augmentation=PLAIN)
    method = replace(method, start=Noise(), optimiser=SGD(0.5, 0.5), iterations=60)
    small = condense(method, task).data
    levels = small.images.mean((1, 2, 3))
    assert small.labels.tolist() == [0, 0, 2]
    # Two images of a class share its mean; one image is at it.
    assert levels[:2].mean().item() == pytest.approx(-1, abs=0.2)
    assert levels[2].item() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 28, 28), (3, 12, 16)], ids=str)
@pytest.mark.parametrize("network", [ConvNet(4, 2), MLP(4, 1)], ids=str)
def test_grey_and_colour_images_of_any_size_are_distilled(shape, network):
    method, task = dm(networks=Fresh(network, 2)), task_of([1, 2], shape=shape)
    small, start = condense(method, task), images_of_start(task)
    assert small.data.images.shape == (3, *shape)
    assert small.data.images.isfinite().all()
    assert (small.data.images - start).flatten(1).norm(dim=1).min() > 0


def test_with_clip_every_step_ends_in_the_range_of_pixels():
    clipped = Parameterisation(Pixels(True))
    method = replace(DM, parameterisation=clipped, optimiser=SGD(100.0, 0.5), iterations=6)
    for step in method.steps(task_of([2, 1])):
        images = step.result().data.images
        assert (images.min().item(), images.max().item()) == (-2.0, 2.0)


def test_with_clip_the_start_is_in_range_too():
    seen, clipped = Seen(), Parameterisation(Pixels(True))
    method = dm(statistic=seen, augmentation=PLAIN)
    method = replace(method, parameterisation=clipped, start=Noise(), iterations=1)
    condense(method, task_of([20, 20], per_class=[20, 20]))
    first = seen.synthetic[0].images
    assert (first.min().item(), first.max().item()) == (-2.0, 2.0)


def test_without_clip_pixels_go_where_the_gradient_takes_them():
    images = images_of(replace(DM, objective=Sum()), task_of([2, 1]))
    assert images.max().item() < -2


@pytest.mark.parametrize(("start", "origin"), [(Random(), "real"), (Noise(), "noise")], ids=str)
def test_the_origin_is_that_of_the_start_even_after_resuming(start, origin):
    task, method = task_of([2, 1]), replace(DM, start=start)
    state = through_a_file(next(method.steps(task)).state())
    assert condense(method, task).origin == origin
    assert resumed(method, task, state).origin == origin


def test_the_set_keeps_the_normalisation_of_the_task():
    assert condense(DM, task_of([2, 1])).normalisation == HALF


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_the_run(factor):
    message = r"^the loss must stay finite, got .* at step 1; lower optimiser\.learning_rate$"
    with pytest.raises(FloatingPointError, match=message):
        condense(replace(DM, objective=Sum(factor)), task_of([1, 1]))


def test_a_step_too_large_stops_the_run_once_the_loss_overflows():
    method = dm(networks=Fresh(MLP(4, 1), 2), augmentation=PLAIN)
    with pytest.raises(FloatingPointError, match=r"at step 2; lower optimiser\.learning_rate$"):
        condense(replace(method, optimiser=SGD(1e30, 0.5)), task_of([1, 1]))


@final
@dataclass(frozen=True)
class Told(Objective):
    """Says what losses it is told to, and pulls by what it is told to."""

    losses: tuple[float, ...]
    slope: float = 0.0

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        pass

    def begin(self, real: RealData, state: State) -> Pulling:
        return Telling(self)


class Telling(Pulling):
    def __init__(self, told: Told) -> None:
        self.told = told

    def step(self, index: int, small: Learned) -> float:
        rows = torch.arange(len(small))
        small.pull(rows, torch.full_like(small.images(rows), self.told.slope))
        return self.told.losses[index]

    def state(self) -> State:
        return {}


def test_a_loss_beyond_the_bound_stops_the_run():
    method = replace(DM, objective=Told((9.0, 4.0, 9.0, 41.0, 1.0)), loss_bound=4.0)
    steps, seen = method.steps(task_of([1, 1])), list[int]()
    message = r"within 4 times what it was at first \(9\), got 41 at step 4; lower optimiser"
    with pytest.raises(FloatingPointError, match=message):
        seen.extend(step.done for step in steps)
    assert seen == [1, 2, 3]


def test_a_resumed_run_knows_its_first_loss():
    # 41 is far above 1, which is what step 4 would be measured by without it.
    method, task = (
        replace(DM, objective=Told((9.0, 9.0, 9.0, 41.0, 1.0)), loss_bound=5.0),
        task_of([1]),
    )
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    assert [step.done for step in method.steps(task, states[3])] == [4, 5]
    with pytest.raises(FloatingPointError, match="got 41 at step 4"):
        list(replace(method, loss_bound=4.0).steps(task, states[3]))


def test_numbers_that_are_not_finite_never_leave_a_step():
    # The loss is finite, and so would the next one be; only the images are gone.
    method = replace(DM, objective=Told((1.0, 1.0), float("nan")), iterations=2)
    message = (
        r"^the set's pixels must stay finite, got NaN or infinity from step 1; lower optimiser"
    )
    with pytest.raises(FloatingPointError, match=message):
        condense(method, task_of([1, 1]))


def test_a_bound_below_one_is_refused():
    with pytest.raises(ValueError, match=r"^method\.loss_bound must be >= 1, got 0\.5$"):
        replace(DM, loss_bound=0.5)


def test_the_first_step_has_the_start_to_begin_again_from():
    task = task_of([2, 1])
    starts = [step.start for step in DM.steps(task)]
    assert starts[0]["done"] == 0
    assert starts[1:] == [None] * 4
    again = list(DM.steps(task, through_a_file(starts[0])))
    assert [(step.done, step.start) for step in again] == [(n, None) for n in (1, 2, 3, 4, 5)]
    assert torch.equal(again[-1].result().data.images, images_of(DM, task))


def test_the_objective_goes_on_from_its_state():
    # Sum refuses a step that it did not count.
    task, method = task_of([2, 1]), replace(DM, objective=Sum())
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    assert states[3]["objective"] == {"taken": 3}
    resumed(method, task, states[3])


def test_the_set_has_the_labels_that_it_learned():
    # Nothing pulls on them, so they are as they began: 3/4 for the class.
    task, method = task_of([2, 1]), replace(DM, objective=Sum(), labels=SoftLabels(0.75))
    expected = torch.tensor([[0.75, 0.25], [0.75, 0.25], [0.25, 0.75]])
    states = {step.done: through_a_file(step.state()) for step in method.steps(task)}
    for small in (condense(method, task), resumed(method, task, states[2])):
        torch.testing.assert_close(small.data.targets, expected)
    assert condense(DM, task).data.targets is None


@pytest.mark.parametrize(("count", "rates"), [(1, (0.02,)), (3, (0.02, 0.02, 0.02))])
def test_the_set_has_the_step_sizes_that_it_learned(count, rates):
    task, method = task_of([2, 1]), replace(DM, objective=Sum(), rate=0.02, rate_count=count)
    state = through_a_file(next(method.steps(task)).state())
    for small in (condense(method, task), resumed(method, task, state)):
        assert small.rates == pytest.approx(rates, rel=1e-6)
    assert condense(DM, task).rates == ()


def test_an_objective_may_refuse_what_is_to_be_learned():
    with pytest.raises(ValueError, match=r"^method\.rate must not be 99$"):
        replace(DM, objective=Sum(), rate=99.0)


def test_an_objective_is_asked_about_every_step_size_that_is_learned():
    how = Unrolled(RealLoss(MLP(3, 1), 4), 2, 0.1, 0.0, None, False, PLAIN, True, None, None)
    replace(DM, objective=how, rate=0.1, rate_count=2)
    replace(DM, objective=how, rate_count=3)  # none is learned
    with pytest.raises(ValueError, match=r"^method\.rate_count must be <= .*=2, got 3$"):
        replace(DM, objective=how, rate=0.1, rate_count=3)


@pytest.mark.parametrize("name", ["iterations", "rate_count"])
def test_counts_below_one_are_refused(name):
    with pytest.raises(ValueError, match=rf"^method\.{name} must be >= 1, got 0$"):
        replace(DM, **{name: 0})


@pytest.mark.parametrize("name", ["clip", "rate"])
def test_values_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=rf"^method\.{name} must be > 0, got 0\.0$"):
        replace(DM, **{name: 0.0})
