"""A task says what is to be made small; condensing takes all steps and returns the last set."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import pytest
import torch

from distill.condenser import Condenser, State, Step, Task, condense, even_counts
from distill.images import LabelledImages, Normalisation
from distill.synthetic import SyntheticSet

HALF = Normalisation([0.5], [0.25])


def real(labels: list[int], num_classes: int = 4) -> LabelledImages:
    return LabelledImages(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels), num_classes)


@final
@dataclass(frozen=True)
class Counting(Condenser):
    """Each step's set holds as many images as steps were taken."""

    total: int

    @property
    def makes_pixels(self) -> bool:
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        for done in range(1 if state is None else state["done"] + 1, self.total + 1):
            data = task.real.rows(torch.arange(done))
            small = SyntheticSet(data, task.normalisation, "real")
            yield Step(done, self.total, None, lambda done=done: {"done": done}, lambda s=small: s)


def test_the_small_set_is_that_of_the_last_step():
    assert len(condense(Counting(3), Task(real([0] * 5), torch.tensor([3, 0, 0, 0]), HALF, 0))) == 3


def test_classes_are_those_that_get_images_in_order():
    task = Task(real([3, 1, 0, 3]), torch.tensor([1, 0, 0, 2]), HALF, 0)
    assert task.classes == [0, 3]
    assert all(type(label) is int for label in task.classes)


def test_labels_are_ordered_by_class():
    task = Task(real([3, 1, 0, 3]), torch.tensor([1, 0, 0, 2]), HALF, 0)
    assert task.labels.tolist() == [0, 3, 3]
    assert task.labels.dtype == torch.int64


def test_more_images_than_real_ones_may_be_wanted():
    assert len(Task(real([0]), torch.tensor([5, 0, 0, 0]), HALF, 0).labels) == 5


def test_one_image_in_all_may_be_wanted():
    assert Task(real([0, 1]), torch.tensor([0, 1, 0, 0]), HALF, 0).classes == [1]


def test_counts_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"^counts must have shape \(4,\) .* got \[1, 1\]$"):
        Task(real([0, 1]), torch.tensor([1, 1]), HALF, 0)


def test_counts_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"a sum >= 1, got \[0, 0, 0, 0\]$"):
        Task(real([0, 1]), torch.zeros(4, dtype=torch.int64), HALF, 0)


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match=r"^counts must .* got \[-1, 2, 0, 0\]$"):
        Task(real([0, 1]), torch.tensor([-1, 2, 0, 0]), HALF, 0)


def test_counts_for_classes_without_a_real_image_are_refused():
    message = r"^counts must be 0 for classes without a real image, got \[2, 1\] for \[2, 3\]$"
    with pytest.raises(ValueError, match=message):
        Task(real([0, 1]), torch.tensor([1, 0, 2, 1]), HALF, 0)


def test_even_counts_are_ipc_or_what_a_class_has():
    # class 0 has 3 images, class 1 one, class 2 none, class 3 two
    assert even_counts(real([0, 3, 0, 1, 0, 3]), 2).tolist() == [2, 1, 0, 2]


def test_a_condenser_cannot_be_made_without_steps():
    with pytest.raises(TypeError, match="abstract"):
        Condenser()
