"""An image is of the class whose mean feature is nearest."""

import pytest
import torch
from torch import nn

from distill.images import LabelledImages
from fedcl.continual.answers import Restricted
from fedcl.continual.nearest_mean import UNKNOWN, NearestMean


class FirstPixels(nn.Module):
    """The first two pixels are the features."""

    def embed(self, images):
        return images[:, 0, 0, :2]


def images(*features) -> torch.Tensor:
    pixels = torch.zeros(len(features), 1, 8, 8)
    pixels[:, 0, 0, :2] = torch.tensor(features)
    return pixels


HELD = LabelledImages(
    images((2.0, 0.0), (0.0, 0.5), (-1.0, 0.0)), torch.tensor([0, 0, 2]), num_classes=4
)


def test_distances_are_to_unit_means_of_unit_features():
    # Class 0: (1, 0) and (0, 1), of which the unit mean is (s, s), s = sqrt(1/2); class 2: (-1, 0).
    # From (3, 0), of norm one (1, 0): sqrt((1 - s)^2 + s^2) = sqrt(2 - 2 s) = 0.7654, and 2.
    logits = NearestMean.of(FirstPixels(), HELD)(images((3.0, 0.0)))[0]
    assert logits[[0, 2]].tolist() == pytest.approx([-0.765367, -2.0], abs=1e-6)
    assert logits[[1, 3]].tolist() == [UNKNOWN] * 2


def test_what_is_nearer_is_answered():
    classifier = NearestMean.of(FirstPixels(), HELD)
    assert classifier(images((1.0, 3.0), (-4.0, 1.0))).argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize(("told", "answers"), [([3, 1], {1, 3}), ([1, 2], {2}), ([3, 0], {0})])
def test_an_answer_is_of_the_told_classes_whether_or_not_they_are_held(told, answers):
    classifier = Restricted(NearestMean.of(FirstPixels(), HELD), told)
    found = classifier(images((1.0, 3.0), (-4.0, 1.0), (-3.0, -3.0))).argmax(1).tolist()
    assert set(found) <= answers
