"""Distribution matching agrees with arithmetic and with a naive loop."""

import pytest
import torch
from torch import Tensor, nn

from distill.objectives.base import ClassBatch
from distill.objectives.distribution import DistributionMatching


class Flatten:
    """The identity embedding, so that losses can be worked out by hand."""

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Random(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 5, generator=generator))

    def embed(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight).tanh()


def batch(images: Tensor, groups: list[int], classes: int) -> ClassBatch:
    return ClassBatch(images, torch.tensor(groups), classes)


def naive_loss(network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
    """The paper's loop over classes, written without the code under test."""
    loss = torch.zeros(())
    for c in range(real.classes):
        x, s = real.images[real.groups == c], synthetic.images[synthetic.groups == c]
        gap = network.embed(x).mean(0) - network.embed(s).mean(0)
        loss = loss + gap.dot(gap)
    return loss


def test_loss_is_the_squared_distance_of_class_means():
    # class 0: means (1, 0) and (4, 4), squared distance 9 + 16; class 1: equal means.
    real = batch(torch.tensor([[0.0, 0.0], [2.0, 0.0], [6.0, 6.0]]), [0, 0, 1], 2)
    synthetic = batch(torch.tensor([[4.0, 4.0], [5.0, 5.0], [7.0, 7.0]]), [0, 1, 1], 2)
    assert DistributionMatching()(Flatten(), real, synthetic).item() == 25.0


def test_loss_agrees_with_the_naive_loop_for_unequal_classes(rng):
    network = Random(rng)
    real = batch(torch.randn(150, 3, 2, 2, generator=rng), [0] * 70 + [1] * 79 + [2], 3)
    synthetic = batch(torch.randn(5, 3, 2, 2, generator=rng), [0, 0, 0, 1, 2], 3)
    loss = DistributionMatching()(network, real, synthetic)
    torch.testing.assert_close(loss, naive_loss(network, real, synthetic))


def test_gradient_reaches_synthetic_images_only(rng):
    real = batch(torch.randn(4, 3, 2, 2, generator=rng, requires_grad=True), [0, 0, 1, 1], 2)
    small = torch.randn(2, 3, 2, 2, generator=rng, requires_grad=True)
    DistributionMatching()(Random(rng), real, batch(small, [0, 1], 2)).backward()
    assert real.images.grad is None
    assert small.grad is not None
    assert small.grad.abs().min() > 0


def test_different_classes_are_refused():
    real, synthetic = batch(torch.zeros(2, 4), [0, 1], 2), batch(torch.zeros(1, 4), [0], 1)
    with pytest.raises(ValueError, match=r"same classes .* got real 2 .* synthetic 1"):
        DistributionMatching()(Flatten(), real, synthetic)
