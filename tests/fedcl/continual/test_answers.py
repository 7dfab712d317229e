"""Where tasks are told, the classes of an image's task alone are answers."""

import pytest
import torch

from fedcl.continual.answers import Restricted, answers_by_class


def test_a_class_in_two_told_tasks_is_refused():
    reason = r"told tasks must have classes of their own, got class 1 in two; set stream.tells"
    with pytest.raises(ValueError, match=reason):
        answers_by_class([[0, 1], [2, 1]], 3)


def test_a_restricted_classifier_answers_with_its_classes_alone():
    logits = torch.tensor([[3.0, 1.0, 2.0]])
    restricted = Restricted(torch.nn.Identity(), [2, 1])(logits)
    assert restricted.tolist() == [[-torch.inf, 1.0, 2.0]]
