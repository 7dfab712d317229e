"""Distribution matching agrees with arithmetic and with a naive loop."""

import pytest
import torch
from torch import Tensor, nn

from distill.networks import ConvNet, fresh
from distill.objectives.base import ClassBatch, Objective
from distill.objectives.distribution import DistributionMatching, class_means

LOSS = DistributionMatching()


class Flatten:
    """The identity embedding, so that losses can be worked out by hand."""

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Random(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        weight = torch.randn(12, 5, generator=generator, dtype=torch.float64)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def embed(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight).tanh()


def batch(
    groups: list[int], rng: torch.Generator, shape: tuple[int, ...] = (3, 2, 2)
) -> ClassBatch:
    images = torch.randn(len(groups), *shape, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), max(groups) + 1)


def naive_loss(network, real: ClassBatch, synthetic: ClassBatch) -> Tensor:
    """The paper's loop over classes, written without the code under test."""
    loss = torch.zeros((), dtype=torch.float64)
    for label in range(real.classes):
        target = network.embed(real.images[real.groups == label]).mean(0)
        gap = target - network.embed(synthetic.images[synthetic.groups == label]).mean(0)
        loss = loss + gap.dot(gap)
    return loss


def test_loss_is_the_squared_distance_of_class_means():
    # class 0: means (1, 0) and (4, 4), squared distance 9 + 16; class 1: equal means.
    real = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [7.0, 7.0]]).view(4, 1, 1, 2)
    synthetic = torch.tensor([[4.0, 4.0], [6.0, 6.0]]).view(2, 1, 1, 2)
    of_real = ClassBatch(real, torch.tensor([0, 0, 1, 1]), 2)
    assert LOSS(Flatten(), of_real, ClassBatch(synthetic, torch.tensor([0, 1]), 2)).item() == 25.0


def test_gradient_is_twice_the_gap_over_the_images():
    # real mean 1, synthetic mean (2 + 6) / 2 = 4: 2 * (4 - 1) / 2 = 3 for either image
    real = ClassBatch(torch.ones(3, 1, 1, 1), torch.zeros(3, dtype=torch.int64), 1)
    images = torch.tensor([2.0, 6.0]).view(2, 1, 1, 1).requires_grad_()
    LOSS(Flatten(), real, ClassBatch(images, torch.tensor([0, 0]), 1)).backward()
    assert images.grad.flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    "synthetic", [[0, 1, 2], [0, 0, 0, 1, 2, 2]], ids=["one a class", "unequal classes"]
)
def test_loss_agrees_with_the_naive_loop(rng, synthetic):
    network = Random(rng)
    real = batch([0] * 5 + [1] * 8 + [2] * 2, rng)
    small = batch(synthetic, rng)
    torch.testing.assert_close(LOSS(network, real, small), naive_loss(network, real, small))


@pytest.mark.parametrize("count", [63, 64, 65, 150])
def test_chunks_of_the_real_side_do_not_show(rng, count):
    network = Random(rng)
    real, small = batch([i % 3 for i in range(count)], rng), batch([0, 1, 2], rng)
    torch.testing.assert_close(LOSS(network, real, small), naive_loss(network, real, small))


def test_one_pass_over_all_classes_equals_one_pass_a_class_in_a_convnet(rng):
    network = fresh(ConvNet(4, 2), (3, 8, 8), 3, rng).double().requires_grad_(False)
    real, small = (
        batch([0] * 5 + [1] * 3 + [2] * 4, rng, (3, 8, 8)),
        batch([0, 1, 1, 2], rng, (3, 8, 8)),
    )
    torch.testing.assert_close(LOSS(network, real, small), naive_loss(network, real, small))


def test_gradient_agrees_with_the_naive_loop(rng):
    network, real, small = Random(rng), batch([0, 0, 0, 1], rng), batch([0, 1, 1], rng)
    small.images.requires_grad_()
    (ours,) = torch.autograd.grad(LOSS(network, real, small), small.images)
    (theirs,) = torch.autograd.grad(naive_loss(network, real, small), small.images)
    torch.testing.assert_close(ours, theirs)


def test_gradient_reaches_synthetic_images_only(rng):
    network, real, small = Random(rng), batch([0, 0, 1, 1], rng), batch([0, 1], rng)
    real.images.requires_grad_()
    small.images.requires_grad_()
    LOSS(network, real, small).backward()
    assert real.images.grad is None
    assert network.weight.grad is None
    assert small.images.grad.isfinite().all()
    assert small.images.grad.flatten(1).norm(dim=1).min() > 0


def test_the_real_side_leaves_no_graph(rng):
    network, real, small = Random(rng), batch([0, 1], rng), batch([0, 1], rng)
    real.images.requires_grad_()
    assert not LOSS(network, real, small).requires_grad


def test_a_smaller_real_batch_gives_the_same_gradient_in_the_mean(rng):
    # The gradient is linear in the real mean, so it averages over the two halves of a class.
    network, whole, small = Random(rng), batch([0] * 6, rng), batch([0, 0], rng)
    small.images.requires_grad_()
    halves = [ClassBatch(whole.images[i : i + 3], whole.groups[:3], 1) for i in (0, 3)]
    gradients = [
        torch.autograd.grad(LOSS(network, real, small), small.images)[0]
        for real in (whole, *halves)
    ]
    torch.testing.assert_close((gradients[1] + gradients[2]) / 2, gradients[0])


def test_equal_sets_have_no_loss(rng):
    real = batch([0, 0, 1], rng)
    assert LOSS(Random(rng), real, real).item() == 0


def test_the_order_of_images_does_not_matter(rng):
    network, real, small = Random(rng), batch([0, 0, 1, 1, 2], rng), batch([0, 1, 2], rng)
    order = torch.tensor([4, 2, 0, 3, 1])
    shuffled = ClassBatch(real.images[order], real.groups[order], 3)
    torch.testing.assert_close(LOSS(network, shuffled, small), LOSS(network, real, small))


def test_class_means_are_those_of_each_class():
    # class 0: (1 + 3) / 2 and (-2 - 4) / 2; class 1: one image
    images = torch.tensor([[1.0, -2.0], [10.0, 20.0], [3.0, -4.0]])
    means = class_means(images, ClassBatch(images, torch.tensor([0, 1, 0]), 2))
    assert means.tolist() == [[2.0, -3.0], [10.0, 20.0]]


def test_no_random_number_is_drawn(rng):
    network, real, small = Random(rng), batch([0, 1], rng), batch([0, 1], rng)
    before = torch.get_rng_state()
    LOSS(network, real, small)
    assert torch.equal(torch.get_rng_state(), before)


def test_different_classes_are_refused(rng):
    message = r"^real and synthetic must be of the same classes .* got real 2 x .*, synthetic 3 x "
    with pytest.raises(ValueError, match=message):
        LOSS(Flatten(), batch([0, 1], rng), batch([0, 1, 2], rng))


def test_different_image_shapes_are_refused(rng):
    message = r"same classes and image shape, got real 2 x \(3, 2, 2\), synthetic 2 x \(1, 2, 2\)$"
    with pytest.raises(ValueError, match=message):
        LOSS(Flatten(), batch([0, 1], rng), batch([0, 1], rng, (1, 2, 2)))


def test_an_objective_cannot_be_made_without_a_loss():
    with pytest.raises(TypeError, match="abstract"):
        Objective()
