"""Labels start from the answers of the experts that are right, on images that one knows."""

from dataclasses import dataclass, replace
from typing import final

import pytest
import torch
from torch import Tensor, nn

from distill.augment import Augmentation
from distill.condenser import Task
from distill.coresets import Random
from distill.engine import Distillation
from distill.expert import Experts
from distill.expert_labels import ExpertLabels
from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, ImageShape, Network
from distill.objectives.trajectory import ExpertDistance
from distill.objectives.unrolled import Unrolled
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.real import RealData
from distill.training import Recipe

PLAIN = Augmentation([], False)
HALF = Normalisation([0.5], [0.25])


@final
@dataclass(frozen=True)
class Linear(Architecture):
    """Logits that are linear in the pixels."""

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        return Network(nn.Flatten(), 64, num_classes)


EXPERTS = Experts(Linear(), 2, 2, Recipe(1, 4, 0.1, 0.0, 0.0, None, PLAIN), None)


def weights(rows: list[list[float]]) -> dict[str, Tensor]:
    """An expert whose logits are products with an image's first pixels."""
    weight = torch.zeros(3, 64)
    weight[:, : len(rows[0])] = torch.tensor(rows)
    return {"classifier.weight": weight, "classifier.bias": torch.zeros(3)}


def images_of(pixels: list[list[float]]) -> Tensor:
    images = torch.zeros(len(pixels), 64)
    images[:, : len(pixels[0])] = torch.tensor(pixels)
    return images.view(-1, 1, 8, 8)


def taught(images: Tensor, labels: list[int], *ends: dict[str, Tensor]) -> RealData:
    """Real images whose experts end in these weights, and said nothing of the kind before."""
    real = LabelledImages(images, torch.tensor(labels), 3)
    data = RealData(Task(real, torch.ones(3).long() * (real.counts > 0), HALF, 0))
    buffer = replace(EXPERTS, count=len(ends)).begin(data, {})
    buffer.trained |= {k: [weights([[9.0], [0.0], [0.0]]), end] for k, end in enumerate(ends)}
    return data


# Logits of pixel (1): expert 0 answers (2, 1, 0), expert 1 (4, 0, -3); of (-1) the opposite.
FIRST, SECOND = weights([[2.0], [1.0], [0.0]]), weights([[4.0], [0.0], [-3.0]])
# A third expert sees (0, 3, 1) in (1).
THIRD = weights([[0.0], [3.0], [1.0]])


@pytest.mark.parametrize(
    ("ends", "label", "expected"),
    [
        # class 0 is right for the first two: (2 + 4) / 2, (1 + 0) / 2, (0 - 3) / 2
        ((FIRST, SECOND, THIRD), 0, [3.0, 0.5, -1.5]),
        # class 1 for the third alone
        ((FIRST, SECOND, THIRD), 1, [0.0, 3.0, 1.0]),
        # class 2 for none: all are asked, (2 + 4 + 0) / 3, (1 + 0 + 3) / 3, (0 - 3 + 1) / 3
        ((FIRST, SECOND, THIRD), 2, [2.0, 4 / 3, -2 / 3]),
        ((FIRST,), 0, [2.0, 1.0, 0.0]),
    ],
)
def test_logits_are_the_mean_of_the_experts_that_are_right(ends, label, expected):
    start = LabelledImages(images_of([[1.0]]), torch.tensor([label]), 3)
    real = taught(start.images, [label], *ends)
    labels = ExpertLabels(replace(EXPERTS, count=len(ends)))
    torch.testing.assert_close(labels.begin(start, real), torch.tensor([expected]))


def test_start_images_are_those_that_an_expert_knows():
    # (1) is class 0 for both, (-1) class 2 for both. Rows 1 and 2 are wrong for both; class 1 is
    # answered by neither, so all of it is kept.
    images = images_of([[1.0], [-1.0], [1.0], [-1.0], [1.0], [-1.0]])
    real = taught(images, [0, 0, 2, 2, 1, 1], FIRST, SECOND)
    eligible = ExpertLabels(EXPERTS).eligible(real)
    assert eligible.images[:, 0, 0, 0].tolist() == [1.0, -1.0, 1.0, -1.0]
    assert eligible.labels.tolist() == [0, 2, 1, 1]
    assert eligible.num_classes == 3


def test_one_expert_that_knows_an_image_is_enough():
    images = images_of([[1.0], [1.0], [-1.0]])
    real = taught(images, [0, 1, 2], FIRST, THIRD)
    assert len(ExpertLabels(EXPERTS).eligible(real)) == 3
    # without the third, class 1 is unknown and kept whole all the same; class 0 of (-1) is not
    wrong = taught(images_of([[1.0], [-1.0]]), [0, 0], FIRST, SECOND)
    assert ExpertLabels(EXPERTS).eligible(wrong).images[:, 0, 0, 0].tolist() == [1.0]


def test_many_images_are_answered_in_parts():
    pixels = torch.linspace(-1, 1, 1001).view(-1, 1)
    images, labels = images_of(pixels.tolist()), torch.zeros(1001).long()
    start = LabelledImages(images, labels, 3)
    real = taught(images, [0] * 1001, FIRST)
    found = ExpertLabels(replace(EXPERTS, count=1)).begin(start, real)
    torch.testing.assert_close(found, pixels * torch.tensor([2.0, 1.0, 0.0]))


def test_answers_have_no_graph_and_are_read_as_distributions():
    start = LabelledImages(images_of([[1.0]]), torch.tensor([0]), 3)
    labels = ExpertLabels(EXPERTS)
    numbers = labels.begin(start, taught(start.images, [0], FIRST, SECOND))
    assert not numbers.requires_grad
    assert labels.numbers(3) == 3
    torch.testing.assert_close(labels.read(numbers), numbers.exp() / numbers.exp().sum())


def method_of(parameterisation: Parameterisation, iterations: int = 2) -> Distillation:
    terminal = ExpertDistance(EXPERTS, 1, 0, 1, 0)
    objective = Unrolled(terminal, 2, 0.1, 0.0, None, False, PLAIN, True, None, None)
    labels = ExpertLabels(EXPERTS)
    return Distillation(objective, parameterisation, labels, Random(), SGD(0.1, 0.0), iterations)


def task_of(rng) -> Task:
    labels = torch.arange(3).repeat_interleave(8)
    centres = torch.randn(3, 1, 8, 8, generator=rng)
    images = centres[labels] + torch.randn(24, 1, 8, 8, generator=rng) * 0.01
    return Task(LabelledImages(images, labels, 3), torch.tensor([2, 2, 2]), HALF, 0)


@pytest.mark.parametrize("decoders", [[], [Upsample(2)]])
def test_a_set_begins_with_the_answers_on_its_own_images(rng, decoders):
    task, method = task_of(rng), method_of(Parameterisation(Pixels(False), decoders))
    still = replace(method, optimiser=SGD(1e-30, 0.0), iterations=1)
    (step,) = still.steps(task)
    small, real = step.result().data, RealData(task)
    expected = ExpertLabels(EXPERTS).begin(replace(small, targets=None), real)
    torch.testing.assert_close(small.targets, expected.softmax(1))


def test_a_set_starts_from_images_that_an_expert_knows(rng):
    task, method = task_of(rng), method_of(Parameterisation(Pixels(False)))
    labels = task.real.labels.clone()
    labels[[0, 3, 9, 20]] = torch.tensor([1, 2, 0, 0])  # of classes that they don't look like
    task = replace(task, real=LabelledImages(task.real.images, labels, 3))
    eligible = ExpertLabels(EXPERTS).eligible(RealData(task))
    assert len(eligible) == 20
    still = replace(method, optimiser=SGD(1e-30, 0.0), iterations=1)
    (step,) = still.steps(task)
    known = {tuple(image.flatten().tolist()) for image in eligible.images}
    assert all(tuple(x.flatten().tolist()) in known for x in step.result().data.images)


def test_experts_are_trained_once_for_labels_and_objective(rng):
    task, method = task_of(rng), method_of(Parameterisation(Pixels(False)))
    first = next(method.steps(task))
    assert sorted(first.state()["objective"]) == ["0", "1"]
    real = RealData(task)
    buffer = EXPERTS.begin(real, {})
    ExpertLabels(EXPERTS).eligible(real)
    assert sorted(buffer.trained) == [0, 1]


def test_resuming_gives_the_bytes_of_the_unbroken_run(rng):
    task, method = task_of(rng), method_of(Parameterisation(Pixels(False)), 3)
    states = {step.done: step.state() for step in method.steps(task)}
    *_, last = method.steps(task)
    *_, again = method.steps(task, states[1])
    assert torch.equal(again.result().data.images, last.result().data.images)
    assert torch.equal(again.result().data.targets, last.result().data.targets)
