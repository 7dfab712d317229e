"""Coresets hold the images that their definitions choose, and no others."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as Lloyd
from threadpoolctl import threadpool_info
from torch import Tensor

from distill.condenser import Task, condense
from distill.coresets import Herding, KCenter, KMeans, Noise, Random, centres, centroids, herd
from distill.images import LabelledImages, Normalisation

HALF = Normalisation([0.5], [0.25])
CHOOSERS = [Random(), Herding(), KCenter()]
ALL = [*CHOOSERS, KMeans(), Noise()]


def task(counts: list[int], seed: int = 0, per_class: int = 6) -> Task:
    """Mixed classes of random images; the last class has none."""
    rng = torch.Generator().manual_seed(99)
    labels = torch.arange(per_class * (len(counts) - 1)) % (len(counts) - 1)
    images = torch.randn(len(labels), 1, 8, 8, generator=rng)
    real = LabelledImages(images, labels, len(counts))
    return Task(real, torch.tensor(counts), HALF, seed)


def positions(small: LabelledImages, real: LabelledImages) -> list[int]:
    """Returns the row of each small image among the real ones."""
    same = (small.images.unsqueeze(1) == real.images.unsqueeze(0)).flatten(2).all(2)
    assert (same.sum(1) == 1).all()
    return same.int().argmax(1).tolist()


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1)


def naive_herding(features: Tensor, count: int) -> list[int]:
    """Welling's recursion in its unrolled form: w_t = (t + 1) mu - the sum of those chosen."""
    chosen: list[int] = []
    for step in range(count):
        weight = (step + 1) * features.mean(0) - features[chosen].sum(0)
        left = [row for row in range(len(features)) if row not in chosen]
        chosen.append(max(left, key=lambda row: float(features[row] @ weight)))
    return chosen


def naive_k_center(features: Tensor, count: int) -> list[int]:
    """Sener's greedy loop from all pairwise distances."""
    mean = features.mean(0)
    chosen = [min(range(len(features)), key=lambda row: float((features[row] - mean).norm()))]
    while len(chosen) < count:
        gaps = [min(float((x - features[c]).norm()) for c in chosen) for x in features]
        chosen.append(gaps.index(max(gaps)))
    return chosen


def test_herding_follows_the_mean():
    # -1, 0, 4 have mean 1. w = 1: scores -1, 0, 4, take 4. w = 1 + 1 - 4 = -2: scores 2, 0,
    # take -1. w = -2 + 1 + 1 = 0: what is left.
    assert herd(column(-1, 0, 4), 3).tolist() == [2, 0, 1]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_herding_agrees_with_the_naive_loop(rng, count):
    features = torch.randn(12, 5, generator=rng, dtype=torch.float64) + 1
    assert herd(features, count).tolist() == naive_herding(features, count)


def test_k_center_takes_the_farthest():
    # 0, 4, 5, 11 have mean 5: take 5. Distances 5, 1, 0, 6: take 11. 5, 1, 0, 0: take 0.
    assert centres(column(0, 4, 5, 11), 4).tolist() == [2, 3, 0, 1]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_k_center_agrees_with_the_naive_loop(rng, count):
    features = torch.randn(12, 5, generator=rng, dtype=torch.float64)
    assert centres(features, count).tolist() == naive_k_center(features, count)


def test_k_center_takes_each_of_equal_images_once():
    assert sorted(centres(column(1, 1, 5, 1), 4).tolist()) == [0, 1, 2, 3]


def test_herding_takes_each_of_equal_images_once():
    assert sorted(herd(column(1, 1, 5, 1), 4).tolist()) == [0, 1, 2, 3]


def test_centroids_of_two_clusters_are_their_means():
    # means: 2 / 2 = 1 and 306 / 3 = 102
    found = centroids(column(0, 100, 2, 101, 105), 2, 0)
    torch.testing.assert_close(found.sort(0).values, column(1, 102))
    assert found.dtype == torch.float32


def test_k_means_finds_the_means_of_two_clusters_in_each_class(rng):
    dark, light = torch.randn(2, 5, 1, 8, 8, generator=rng) * 0.01
    images = torch.cat([dark, light + 1, dark * 3 - 1])
    real = LabelledImages(images, torch.tensor([0] * 10 + [1] * 5), 2)
    small = condense(KMeans(), Task(real, torch.tensor([2, 1]), HALF, 0)).data
    means = sorted([dark.mean(0), light.mean(0) + 1], key=lambda image: float(image.mean()))
    found = sorted(small.images[:2], key=lambda image: float(image.mean()))
    torch.testing.assert_close(torch.stack(found), torch.stack(means))
    torch.testing.assert_close(small.images[2], dark.mean(0) * 3 - 1)


def test_a_single_image_is_its_centroid_as_k_means_finds(rng):
    image = torch.randn(1, 64, generator=rng)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.cluster.KMeans", None)
        ours = centroids(image, 1, 0)
    fitted = Lloyd(1, n_init=4, random_state=0).fit(image.double().numpy())
    assert ours.equal(torch.from_numpy(fitted.cluster_centers_).float())


def test_k_means_takes_no_more_threads_than_torch(rng, monkeypatch):
    seen = list[int]()

    class Watched(Lloyd):
        def fit(self, features):
            seen.extend(pool["num_threads"] for pool in threadpool_info())
            return super().fit(features)

    monkeypatch.setattr("sklearn.cluster.KMeans", Watched)
    centroids(torch.randn(6, 4, generator=rng), 2, 0)
    assert set(seen) == {torch.get_num_threads()}


def test_k_means_leaves_the_global_generator_as_it_was(rng):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    centroids(torch.randn(9, 3, generator=rng), 2, 0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("chooser", CHOOSERS, ids=str)
@pytest.mark.parametrize("counts", [[3, 3, 0], [1, 5, 0], [0, 6, 0]], ids=str)
def test_chosen_images_are_different_real_ones_of_their_class(chooser, counts):
    wanted = task(counts)
    small = condense(chooser, wanted).data
    rows = positions(small, wanted.real)
    assert len(set(rows)) == sum(counts)
    assert wanted.real.labels[rows].tolist() == small.labels.tolist()


@pytest.mark.parametrize("condenser", ALL, ids=str)
@pytest.mark.parametrize("counts", [[2, 2, 0], [1, 4, 0], [0, 3, 0]], ids=str)
def test_every_class_gets_its_count_in_order(condenser, counts):
    small = condense(condenser, task(counts))
    assert small.data.labels.tolist() == [0] * counts[0] + [1] * counts[1]
    assert small.data.num_classes == 3
    assert small.data.images.dtype == torch.float32
    assert small.normalisation == HALF


@pytest.mark.parametrize("condenser", [*CHOOSERS, KMeans()], ids=str)
def test_more_images_than_a_class_has_are_refused(condenser):
    message = r"^ipc must be <= 6, the real images of class 1, got 7$"
    with pytest.raises(ValueError, match=message):
        condense(condenser, task([2, 7, 0]))


def test_noise_may_have_more_images_than_a_class():
    assert len(condense(Noise(), task([2, 7, 0]))) == 9


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_only_noise_says_nothing_of_the_data(condenser):
    origin = condense(condenser, task([1, 1, 0])).origin
    assert origin == ("noise" if condenser == Noise() else "real")


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_a_coreset_takes_one_step(condenser):
    (step,) = condenser.steps(task([1, 1, 0]))
    assert (step.done, step.total, step.loss, dict(step.state())) == (1, 1, None, {})


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_a_coreset_resumes_by_starting_anew(condenser):
    (step,) = condenser.steps(task([2, 1, 0]))
    (again,) = condenser.steps(task([2, 1, 0]), step.state())
    assert torch.equal(step.result().data.images, again.result().data.images)


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_equal_seeds_give_equal_sets(condenser):
    sets = []
    for _ in range(2):
        torch.rand(3)  # the global generator stands elsewhere the second time
        sets.append(condense(condenser, task([2, 3, 0], seed=4)).data.images)
    assert torch.equal(sets[0], sets[1])


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_the_global_generator_stays_as_it_was(condenser):
    before = torch.get_rng_state()
    condense(condenser, task([2, 3, 0]))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("condenser", [Random(), Noise()], ids=str)
def test_other_seeds_give_other_sets(condenser):
    one, other = (condense(condenser, task([3, 3, 0], seed=s)).data.images for s in (1, 2))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("condenser", ALL, ids=str)
def test_a_class_does_not_depend_on_the_other_classes(condenser):
    both, alone = (condense(condenser, task(counts)).data for counts in ([2, 3, 0], [0, 3, 0]))
    assert torch.equal(both.of_class(1), alone.of_class(1))


@pytest.mark.parametrize("condenser", [Random(), Noise()], ids=str)
def test_classes_draw_from_streams_of_their_own(condenser):
    images = torch.arange(20.0).view(20, 1, 1, 1).expand(-1, 1, 8, 8).repeat(2, 1, 1, 1)
    real = LabelledImages(images, torch.tensor([0] * 20 + [1] * 20), 2)
    small = condense(condenser, Task(real, torch.tensor([5, 5]), HALF, 0)).data
    assert not torch.equal(small.of_class(0), small.of_class(1))


def test_random_takes_every_image_as_often():
    # 600 draws of 2 out of 6 images take each 200 times, with a deviation of 11.5
    seen = Counter(
        row
        for seed in range(600)
        for row in positions(condense(Random(), task([2, 0, 0], seed)).data, task([2, 0, 0]).real)
    )
    assert len(seen) == 6
    assert all(150 < count < 250 for count in seen.values())


def test_noise_is_standard_normal():
    images = condense(Noise(), task([40, 40, 0])).data.images
    assert images.shape == (80, 1, 8, 8)
    assert images.mean().item() == pytest.approx(0, abs=0.05)
    assert images.std().item() == pytest.approx(1, abs=0.05)
