"""Labels are classes for good, free numbers, or distributions kept as logits."""

import math

import pytest
import torch
from torch import Tensor

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, Labels, LearnedLabels, SoftLabels, centred
from distill.real import RealData

CLASSES = torch.tensor([2, 0])


def of_classes(classes: Tensor, num_classes: int) -> LabelledImages:
    return LabelledImages(torch.zeros(len(classes), 1, 8, 8), classes, num_classes)


def began(labels: Labels, classes: Tensor, num_classes: int) -> Tensor | None:
    """The first numbers of a set that starts from all real images."""
    start = of_classes(classes, num_classes)
    return labels.begin(start, RealData(Task(start, start.counts, Normalisation([0.5], [0.25]), 0)))


def test_hard_labels_have_no_numbers():
    assert began(HardLabels(), CLASSES, 3) is None


@pytest.mark.parametrize("labels", [HardLabels(), LearnedLabels(), SoftLabels(0.9)])
def test_labels_that_ask_nobody_start_from_any_real_image(labels):
    real = of_classes(CLASSES, 3)
    task = Task(real, torch.tensor([1, 0, 0]), Normalisation([0.5], [0.25]), 0)
    assert labels.eligible(RealData(task)) is real


@pytest.mark.parametrize(
    ("num_classes", "own", "other"),
    [
        # 1 - 1/10 and -1/10; (1 - 1/40) / 2 and -1/80, as sqrt(40 / 10) = 2
        (10, 0.9, -0.1),
        (40, 0.4875, -0.0125),
    ],
)
def test_centred_labels_are_those_of_frepo(num_classes, own, other):
    expected = torch.full((2, num_classes), other)
    expected[0, 2] = expected[1, 0] = own
    torch.testing.assert_close(centred(CLASSES, num_classes), expected)
    torch.testing.assert_close(began(LearnedLabels(), CLASSES, num_classes), expected)


def test_centred_labels_have_mean_zero():
    assert centred(CLASSES, 7).mean(1).abs().max() < 1e-7


@pytest.mark.parametrize("labels", [LearnedLabels(), HardLabels()])
def test_free_numbers_are_read_as_they_are(rng, labels):
    numbers = torch.randn(2, 3, generator=rng)
    assert torch.equal(labels.read(numbers), numbers)


@pytest.mark.parametrize("num_classes", [2, 3, 100])
@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.9])
def test_the_class_starts_with_its_confidence_and_the_others_share_the_rest(
    num_classes, confidence
):
    classes = torch.tensor([1, 0])
    labels = SoftLabels(confidence)
    expected = torch.full((2, num_classes), (1 - confidence) / (num_classes - 1))
    expected[0, 1] = expected[1, 0] = confidence
    numbers = began(labels, classes, num_classes)
    assert numbers.dtype == torch.float32
    torch.testing.assert_close(labels.read(numbers), expected)


def test_the_only_class_is_certain():
    labels = SoftLabels(0.9)
    assert labels.read(began(labels, torch.tensor([0, 0]), 1)).tolist() == [[1.0], [1.0]]


def test_logits_are_read_as_a_distribution():
    # e^0, e^log 2, e^log 5 over 8
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]])
    torch.testing.assert_close(SoftLabels(0.5).read(logits), torch.tensor([[0.125, 0.25, 0.625]]))


def test_gradient_reaches_the_logits_through_the_distribution():
    # the derivative of p_0 at (1/4, 3/4): p_0 (1 - p_0) = 3/16 and -p_0 p_1 = -3/16
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    SoftLabels(0.5).read(logits)[0, 0].backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.1875, -0.1875]]))


@pytest.mark.parametrize("confidence", [0.0, 1.0, -0.5, 2.0, float("nan")])
def test_a_confidence_that_is_none_is_refused(confidence):
    message = rf"^labels\.confidence must be in \(0, 1\), got {confidence}$"
    with pytest.raises(ValueError, match=message):
        SoftLabels(confidence)


def test_a_confidence_in_words_is_refused():
    with pytest.raises(TypeError, match=r"^labels\.confidence must be a number, got 'high'$"):
        SoftLabels("high")
