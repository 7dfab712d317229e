"""Means that somebody else took are matched as if the images were here."""

import pytest
import torch

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, LearnedLabels
from distill.learned import Learned
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.given_means import GivenMeans, SharedNetworks, means_of
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.real import ClassBatch, RealData

SHARED = SharedNetworks(MLP(5, 1), 3, 7)


@pytest.fixture
def images(rng) -> LabelledImages:
    labels = torch.tensor([0, 1, 1, 0, 1, 1])
    return LabelledImages(torch.randn(6, 1, 8, 8, generator=rng), labels, 2)


@pytest.fixture
def small(rng) -> Learned:
    values = {"pixels": torch.randn(3, 1, 8, 8, generator=rng)}
    code = Code(Parameterisation(Pixels(False)), values, torch.tensor([1, 2]), (1, 8, 8))
    return Learned(code, HardLabels(), {})


def test_means_are_those_of_each_class_under_each_network(images):
    means = means_of(SHARED, images.images, images.labels, 2)
    for t in range(3):
        features = SHARED.network(t, (1, 8, 8), 2).embed(images.images)
        for label in (0, 1):
            wanted = features[images.labels == label].mean(0)
            torch.testing.assert_close(means[t, label], wanted)


def test_all_who_know_the_seed_make_the_same_networks():
    def weights(seed, t):
        network = SharedNetworks(MLP(5, 1), 3, seed).network(t, (1, 8, 8), 2)
        return torch.cat([w.flatten() for w in network.state_dict().values()])

    assert weights(1, 0).equal(weights(1, 0))
    assert not weights(1, 0).equal(weights(1, 1))
    assert not weights(1, 0).equal(weights(2, 0))


@pytest.mark.parametrize("index", [0, 1, 5])
def test_a_step_is_dms_on_all_real_images(images, small, index):
    objective = GivenMeans(SHARED, means_of(SHARED, images.images, images.labels, 2))
    real = RealData(Task(images, torch.tensor([1, 1]), Normalisation([0.5], [0.25]), 0))
    loss = objective.begin(real, {}).step(index, small)
    network = SHARED.network(index % 3, (1, 8, 8), 2)
    leaf = small.images(torch.arange(3)).clone().requires_grad_()
    wanted = DistributionMatching().pull(
        network,
        ClassBatch(images.images, images.labels, torch.tensor([0, 1])),
        ClassBatch(leaf, torch.tensor([0, 1, 1]), torch.tensor([0, 1])),
        torch.Generator(),
    )
    assert loss == pytest.approx(wanted[0], rel=1e-5)
    (pixels,) = small.parameters.values()
    torch.testing.assert_close(pixels.grad.view(3, 1, 8, 8), wanted[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("labels", "rates"), [(LearnedLabels(), []), (HardLabels(), [0.1])])
def test_labels_and_step_sizes_are_not_learned(labels, rates):
    with pytest.raises(ValueError, match=r"labels must be hard and method.rate null"):
        GivenMeans(SHARED, torch.zeros(3, 2, 5)).check(labels, rates)
