"""Avalanche's loop follows a lesson: its batches, its loss, its gradients, what it leaves."""

from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch

from distill.augment import Augmentation
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.rng import derive
from distill.schedules import Cosine
from distill.training import Recipe
from fedcl.continual.answers import Restricted
from fedcl.continual.avalanche_loop import Course, follow
from fedcl.continual.base import Batch, ContinualMethod, Lesson, Replayed, plain
from fedcl.continual.learner import Learner, Setting
from fedcl.continual.naive import Naive
from fedcl.memory import Budget
from fedcl.stores.float32 import Float32
from fedcl.streams.base import by_classes

NORMALISATION = Normalisation([0.5], [0.25])
RECIPE = Recipe(
    epochs=1,
    batch=5,
    learning_rate=0.1,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)


def noise(count: int, seed: int) -> LabelledImages:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=rng)
    return LabelledImages(images, torch.arange(count) % 4, 4)


def setting(recipe: Recipe = RECIPE, told: bool = False) -> Setting:
    return Setting(
        experiences=by_classes(noise(48, 1), noise(40, 2), [[2, 0], [1, 3]]),
        tells_tasks=told,
        normalisation=NORMALISATION,
        architecture=MLP(8, 1),
        recipe=recipe,
        seed=0,
    )


@final
@dataclass(frozen=True)
class Watched(ContinualMethod):
    """Replay of four real images whose lesson is what a test says, seen by ``moments``."""

    lessons: Lesson
    moments: list = field(default_factory=list)

    @property
    def learns(self):
        return "experience"

    @property
    def replayed(self):
        return Replayed(Random(), Budget(4, None, "fixed", Float32()))

    def lesson(self, moment):
        self.moments.append(moment)
        return self.lessons

    def classifier(self, network, held):
        return network


def learnt(lesson: Lesson, experiences: int = 2) -> tuple[Learner, Watched]:
    learner = Learner(method := Watched(lesson), setting())
    for index in range(experiences):
        learner.learn(index)
    return learner, method


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([values.detach().flatten() for values in learner.network.parameters()])


def test_a_batch_has_as_many_images_of_the_memory_as_of_the_stream():
    batches = []

    def loss(network, batch):
        batches.append(batch)
        return plain(network, batch)

    _, method = learnt(Lesson(loss))
    # 24 images in batches of five: four whole ones and one of four; first without a memory.
    assert [(b.fresh, len(b.labels)) for b in batches[:5]] == [(5, 5)] * 4 + [(4, 4)]
    assert [(b.fresh, len(b.labels)) for b in batches[5:]] == [(5, 10)] * 4 + [(4, 8)]
    held, batch = method.moments[1].held, batches[5]
    assert torch.equal(batch.plain[batch.memory], held.images[batch.rows])
    assert torch.equal(batch.labels[batch.memory], held.labels[batch.rows])
    assert set(batch.labels[batch.stream].tolist()) <= {1, 3}


def test_replayed_images_come_with_their_distributions_and_others_with_their_class():
    doubts = torch.tensor([[0.5, 0.0, 0.5, 0.0], [0.0, 0.25, 0.0, 0.75]])
    held = replace(noise(2, 3), targets=doubts)
    batches = []

    def loss(network, batch):
        batches.append(batch)
        return plain(network, batch)

    course = Course(Lesson(loss), RECIPE, held, None, None, 0)
    images = setting().experiences[0].train.images()
    follow(fresh(MLP(8, 1), (1, 8, 8), 4, derive(0, "network")), images, course, 0)
    for batch in batches:
        assert batch.targets[batch.memory].equal(doubts[batch.rows])
        wanted = torch.eye(4)[batch.labels[batch.stream]]
        assert batch.targets[batch.stream].equal(wanted)


@pytest.mark.parametrize("part", [slice(None), slice(0, 2)])
def test_cross_entropy_with_distributions_agrees_with_a_naive_loop(part, rng):
    logits, targets = torch.randn(3, 4, generator=rng), torch.rand(3, 4, generator=rng)
    targets = targets / targets.sum(1, keepdim=True)
    images, labels = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2])
    heard = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0]]).bool()
    batch = Batch(images, images, labels, 3, labels, heard, targets)
    losses = []
    for row in range(3)[part]:
        z, wanted = logits[row][heard[row]], targets[row][heard[row]]
        losses.append(-(wanted / wanted.sum() * (z - z.exp().sum().log())).sum())
    found = batch.cross_entropy(logits.requires_grad_()[part], part)
    torch.testing.assert_close(found, torch.stack(losses).mean())
    (slope,) = torch.autograd.grad(found, logits)
    assert slope.isfinite().all()


def test_distributions_on_one_class_are_that_class(rng):
    logits, labels = torch.randn(5, 4, generator=rng), torch.tensor([0, 3, 1, 1, 2])
    images, answers = torch.zeros(5, 1, 2, 2), torch.eye(4)[labels].bool()
    answers[:, 0] = True
    hard = Batch(images, images, labels, 5, labels, answers)
    soft = replace(hard, targets=torch.eye(4)[labels])
    torch.testing.assert_close(soft.cross_entropy(logits), hard.cross_entropy(logits))


def test_every_image_of_an_experience_is_seen_once_an_epoch():
    seen = []

    def loss(network, batch):
        seen.append(batch.plain[batch.stream])
        return plain(network, batch)

    learner, _ = learnt(Lesson(loss), 1)
    came = learner.setting.experiences[0].train.images().images.flatten(1)
    assert sorted(torch.cat(seen).flatten(1).tolist()) == sorted(came.tolist())


def test_a_lesson_may_choose_what_is_replayed():
    chosen = torch.tensor([1, 1, 0])
    batches = []

    def loss(network, batch):
        batches.append(batch)
        return plain(network, batch)

    learnt(Lesson(loss, choose=lambda network, stream, held: chosen))
    assert [b.rows.tolist() for b in batches[5:]] == [[1, 1, 0]] * 5


def test_gradients_are_adjusted_before_a_step_and_steps_are_told_after_it():
    calls = []

    def adjust(network, batch):
        calls.append(("adjust", batch.fresh))
        for values in network.parameters():
            values.grad.zero_()

    learner, _ = learnt(
        Lesson(plain, adjust=adjust, stepped=lambda network: calls.append(("stepped", 0))), 1
    )
    assert calls == [("adjust", 5), ("stepped", 0)] * 4 + [("adjust", 4), ("stepped", 0)]
    assert torch.equal(weights(learner), weights(Learner(Naive(), setting())))


def test_longer_gradients_are_scaled_down_after_their_adjustment():
    passed = []

    def adjust(network, batch):
        for values in network.parameters():
            values.grad.mul_(1e3)

    def stepped(network):
        passed.append(torch.cat([values.detach().flatten() for values in network.parameters()]))

    method = Watched(Lesson(plain, adjust=adjust, stepped=stepped))
    learner = Learner(method, setting(replace(RECIPE, clip=0.5)))
    passed.append(weights(learner))
    learner.learn(0)
    lengths = torch.stack(passed).diff(dim=0).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full((5,), 0.1 * 0.5), rtol=1e-4, atol=0)


def test_what_a_lesson_leaves_comes_with_the_next_is_counted_and_written_down():
    def leave(network, data, held):
        return {"seen": torch.tensor([len(data), len(held)])}

    learner, method = learnt(Lesson(plain, leave=leave))
    assert [sum(m.left.get("seen", torch.zeros(1)).tolist()) for m in method.moments] == [0, 26]
    assert learner.left["seen"].tolist() == [24, 4]
    assert learner.kept_bytes == 16
    other = Learner(method, setting())
    other.restore(learner.state())
    assert other.left["seen"].tolist() == [24, 4]


def test_a_moment_says_which_classes_came_and_come():
    _, method = learnt(Lesson(plain))
    came = [(list(m.earlier), list(m.classes)) for m in method.moments]
    assert came == [([], [2, 0]), ([2, 0], [1, 3])]


def test_images_that_pass_through_training_are_counted():
    learner = Learner(Watched(Lesson(plain)), setting())
    # 24 images of the stream each; then as many of the memory.
    assert [learner.learn(index).samples for index in range(2)] == [24, 48]


def test_candidates_and_further_views_are_counted_too():
    def twice(network, batch):
        return plain(network, batch) + plain(network, batch)

    def choose(network, stream, held):
        network(held.images)
        return torch.zeros(1).long()

    learner = Learner(Watched(Lesson(twice, choose)), setting())
    # 24 images of the stream twice; then five times one of the memory twice, and what it holds.
    assert [learner.learn(index).samples for index in range(2)] == [48, 48 + 5 * 2 + 5 * 2]
    assert learner.learn(1).samples == 48 + 5 * 2 + 5 * 4
    assert not learner.network._forward_pre_hooks  # nothing goes on counting


def test_other_tasks_answers_get_no_gradient_where_tasks_are_told():
    told = Learner(Naive(), setting(told=True))
    before = [row.clone() for row in list(told.network.parameters())[-2].detach()]
    told.learn(0)
    after = list(told.network.parameters())[-2].detach()
    moved = [not torch.equal(row, was) for row, was in zip(after, before, strict=True)]
    assert moved == [True, False, True, False]


def test_an_answer_of_another_task_is_never_given_where_tasks_are_told():
    images = noise(8, 3).images
    network = Learner(Naive(), setting()).network
    assert set(Restricted(network, [2, 0])(images).argmax(1).tolist()) <= {0, 2}
    assert torch.equal(Restricted(network, [2, 0])(images)[:, 2], network(images)[:, 2])


def test_a_schedule_paces_the_steps():
    # A cosine is at half its height in the middle of the only epoch.
    half = replace(RECIPE, learning_rate=0.05)
    cosine = replace(RECIPE, schedule=Cosine(0.0))
    one, other = (Learner(Naive(), setting(recipe)) for recipe in (half, cosine))
    one.learn(0)
    other.learn(0)
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=1e-7)


def test_products_may_be_in_bfloat16():
    coarse = replace(RECIPE, precision="bfloat16")
    one, other = (Learner(Naive(), setting(recipe)) for recipe in (RECIPE, coarse))
    one.learn(0)
    other.learn(0)
    assert not torch.equal(weights(one), weights(other))
    torch.testing.assert_close(weights(one), weights(other), rtol=0, atol=0.02)


def test_equal_seeds_learn_equally():
    assert torch.equal(*(weights(learnt(Lesson(plain))[0]) for _ in range(2)))


@pytest.mark.parametrize("index", [0, 1])
def test_planning_an_experience_changes_nothing(index):
    learner = Learner(Watched(Lesson(plain)), setting())
    before = weights(learner)
    work, memory = learner.work()
    assert [piece.name for piece in work] == ["filling memories", "training"] * 2
    work[2 * index + 1].do(1)
    assert torch.equal(weights(learner), before)
    assert learner.memory is not None
    assert (len(learner.memory), len(memory)) == (0, 4)
