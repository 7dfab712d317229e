"""The rivals choose what their definitions say."""

import pytest
import torch

from distill.condenser import Task, condense
from distill.coresets import Herding, KCenter, KMeans, Random, centres, centroids, herd
from distill.images import LabelledImages, Normalisation

NORMAL = Normalisation([0.5], [0.25])


def task(counts=(3, 2)) -> Task:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (20, 1, 8, 8), generator=rng, dtype=torch.uint8)
    real = LabelledImages(NORMAL(pixels), torch.arange(20) % 2, 2)
    return Task(real, torch.tensor(counts), NORMAL, 0)


def naive_herding(features: torch.Tensor, count: int) -> list[int]:
    """Welling's recursion: each choice keeps the running mean nearest to the class mean."""
    mean, chosen = features.mean(0), []
    for _ in range(count):
        total = sum((features[i] for i in chosen), torch.zeros_like(mean))
        weight = mean * (len(chosen) + 1) - total
        left = [i for i in range(len(features)) if i not in chosen]
        chosen.append(max(left, key=lambda i: float(features[i] @ weight)))
    return chosen


def test_herding_agrees_with_its_definition(rng):
    features = torch.randn(15, 4, generator=rng)
    assert herd(features, 6).tolist() == naive_herding(features, 6)


def test_k_center_takes_the_farthest_point_each_time():
    # mean 4: nearest is 3; farthest from 3 is 11; then 0 (3 away) before 2 (1 away)
    features = torch.tensor([[0.0], [2.0], [3.0], [11.0]])
    assert centres(features, 3).tolist() == [2, 3, 0]


def test_k_means_of_two_heaps_is_their_means():
    features = torch.tensor([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 4.0]])
    found = sorted(centroids(features, 2, 0).tolist())
    assert found == [[0.0, 1.0], [10.0, 2.0]]


@pytest.mark.parametrize("method", [Random(), Herding(), KCenter()])
def test_chosen_images_are_real_ones_of_their_class_each_once(method):
    wanted = task()
    small = condense(method, wanted).data
    assert small.labels.tolist() == [0, 0, 0, 1, 1]
    for label in (0, 1):
        real = {bytes(image.numpy()) for image in wanted.real.of_class(label)}
        chosen = [bytes(image.numpy()) for image in small.of_class(label)]
        assert set(chosen) <= real
        assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize("method", [Random(), Herding(), KCenter(), KMeans()])
def test_more_than_a_class_has_is_refused(method):
    with pytest.raises(ValueError, match=r"ipc must be <= 10, the real images of class 1, got 11"):
        condense(method, task((1, 11)))


def test_a_class_without_images_cannot_be_wanted():
    real = LabelledImages(torch.zeros(2, 1, 8, 8), torch.tensor([0, 0]), 2)
    with pytest.raises(
        ValueError, match=r"counts must be 0 for classes without .* \[1\] for \[1\]"
    ):
        Task(real, torch.tensor([1, 1]), NORMAL, 0)
