"""Distribution matching agrees with arithmetic and with a naive loop."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from distill.networks import ConvNet, fresh
from distill.objectives.distribution import DistributionMatching, class_means, embedded
from distill.objectives.matching import Statistic
from distill.real import ClassBatch

Pull = tuple[float, Tensor]


class Flatten:
    """The identity embedding, so that losses can be worked out by hand."""

    def embed(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Random(nn.Module):
    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 5, generator=generator, dtype=torch.float64))

    def embed(self, images: Tensor) -> Tensor:
        return (images.flatten(1) @ self.weight).tanh()


def batch(
    groups: list[int], rng: torch.Generator, shape: tuple[int, ...] = (3, 2, 2)
) -> ClassBatch:
    images = torch.randn(len(groups), *shape, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def pixels(rows: list[list[float]], groups: list[int]) -> ClassBatch:
    images = torch.tensor(rows, dtype=torch.float64).view(len(rows), 1, 1, -1)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def pulled(network, real: ClassBatch, synthetic: ClassBatch, precision: str = "float32") -> Pull:
    leaf = replace(synthetic, images=synthetic.images.detach().clone().requires_grad_())
    return DistributionMatching(precision=precision).pull(network, real, leaf, torch.Generator())


def naive(network, real: ClassBatch, synthetic: ClassBatch) -> Pull:
    """The paper's loop over classes, written without the code under test."""
    images = synthetic.images.detach().clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for label in range(len(real.labels)):
        target = network.embed(real.images[real.groups == label]).mean(0)
        gap = target - network.embed(images[synthetic.groups == label]).mean(0)
        loss = loss + gap.dot(gap)
    return loss.item(), torch.autograd.grad(loss, images)[0]


def assert_same(ours: Pull, theirs: Pull) -> None:
    assert ours[0] == pytest.approx(theirs[0], rel=1e-9)
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-9, atol=1e-12)


def test_loss_is_the_squared_distance_of_class_means():
    # class 0: means (1, 0) and (4, 4), squared distance 9 + 16; class 1: equal means.
    real = pixels([[0, 0], [2, 0], [5, 5], [7, 7]], [0, 0, 1, 1])
    assert pulled(Flatten(), real, pixels([[4, 4], [6, 6]], [0, 1]))[0] == 25.0


def test_gradient_is_twice_the_gap_over_the_images():
    # real mean 1, synthetic mean (2 + 6) / 2 = 4: 2 * (4 - 1) / 2 = 3 for either image
    _, gradient = pulled(Flatten(), pixels([[1], [1], [1]], [0, 0, 0]), pixels([[2], [6]], [0, 0]))
    assert gradient.flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    "synthetic", [[0, 1, 2], [0, 0, 0, 1, 2, 2]], ids=["one a class", "unequal classes"]
)
def test_loss_and_gradient_agree_with_the_naive_loop(rng, synthetic):
    network, real = Random(rng), batch([0] * 5 + [1] * 8 + [2] * 2, rng)
    small = batch(synthetic, rng)
    assert_same(pulled(network, real, small), naive(network, real, small))


@pytest.mark.parametrize("count", [63, 64, 65, 150])
def test_chunks_of_the_real_side_do_not_show(rng, count):
    network = Random(rng)
    real, small = batch([i % 3 for i in range(count)], rng), batch([0, 1, 2], rng)
    assert_same(pulled(network, real, small), naive(network, real, small))


def test_one_pass_over_all_classes_equals_one_pass_a_class_in_a_convnet(rng):
    network = fresh(ConvNet(4, 2), (3, 8, 8), 3, rng).double()
    real = batch([0] * 5 + [1] * 3 + [2] * 4, rng, (3, 8, 8))
    small = batch([0, 1, 1, 2], rng, (3, 8, 8))
    assert_same(pulled(network, real, small), naive(network, real, small))


def test_gradient_reaches_synthetic_images_only(rng):
    network, real, small = Random(rng), batch([0, 0, 1, 1], rng), batch([0, 1], rng)
    real.images.requires_grad_()
    _, gradient = pulled(network, real, small)
    assert real.images.grad is None
    assert network.weight.grad is None
    assert gradient.flatten(1).norm(dim=1).min() > 0


def test_the_real_side_leaves_no_graph(rng):
    images = batch([0, 1], rng).images.requires_grad_()
    assert not embedded(Random(rng), images).requires_grad


def test_real_images_are_embedded_in_bfloat16_and_synthetic_ones_are_not(rng):
    network = fresh(ConvNet(8, 2), (3, 8, 8), 3, rng)
    images = batch([0, 1, 2], rng, (3, 8, 8)).images.float()
    exact, rough = embedded(network, images), embedded(network, images, "bfloat16")
    assert rough.dtype == exact.dtype == torch.float32
    assert 1e-4 < (rough - exact).norm() / exact.norm() < 2e-2  # 2^-8 = 4e-3 an operand


def test_bfloat16_leaves_the_gradient_near(rng):
    network = fresh(ConvNet(8, 2), (3, 8, 8), 3, rng)
    real, small = batch([0] * 5 + [1] * 4, rng, (3, 8, 8)), batch([0, 1, 1], rng, (3, 8, 8))
    real = replace(real, images=real.images.float())
    small = replace(small, images=small.images.float())
    exact, rough = (pulled(network, real, small, name)[1] for name in ("float32", "bfloat16"))
    assert 0 < (rough - exact).norm() / exact.norm() < 5e-2


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision"):
        DistributionMatching(precision="half")


def test_a_smaller_real_batch_gives_the_same_gradient_in_the_mean(rng):
    # The gradient is linear in the real mean, so it averages over disjoint batches of a class.
    network, whole, small = Random(rng), batch([0] * 6, rng), batch([0, 0], rng)
    parts = [ClassBatch(whole.images[i : i + 2], whole.groups[:2], whole.labels) for i in (0, 2, 4)]
    gradients = [pulled(network, part, small)[1] for part in parts]
    expected = pulled(network, whole, small)[1]
    torch.testing.assert_close(torch.stack(gradients).mean(0), expected, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(gradients[0], expected, rtol=0.1)


def test_class_means_are_those_of_each_class():
    # class 0: (1 + 3) / 2 and (-2 - 4) / 2; class 1: one image
    images = torch.tensor([[1.0, -2.0], [10.0, 20.0], [3.0, -4.0]])
    means = class_means(images, ClassBatch(images, torch.tensor([0, 1, 0]), torch.tensor([0, 1])))
    assert means.tolist() == [[2.0, -3.0], [10.0, 20.0]]


def test_different_classes_are_refused(rng):
    message = (
        r"^real and synthetic must be of the same classes .* got real \[0, 1\] x .*, synthetic "
    )
    with pytest.raises(ValueError, match=message + r"\[0, 1, 2\] x "):
        pulled(Flatten(), batch([0, 1], rng), batch([0, 1, 2], rng))


def test_different_image_shapes_are_refused(rng):
    message = r"image shape, got real \[0, 1\] x \(3, 2, 2\), synthetic \[0, 1\] x \(1, 2, 2\)$"
    with pytest.raises(ValueError, match=message):
        pulled(Flatten(), batch([0, 1], rng), batch([0, 1], rng, (1, 2, 2)))


def test_a_statistic_cannot_be_made_without_a_pull():
    with pytest.raises(TypeError, match="abstract"):
        Statistic()


def test_logits_are_matched_besides_features(rng):
    # The gap of the mean logits, taken of the logits themselves, in a network with a bias.
    network = fresh(ConvNet(4, 1), (3, 2, 2), 3, rng).double()
    real, synthetic = batch([0] * 5 + [1] * 3, rng), batch([0, 0, 1], rng)
    leaf = synthetic.images.clone().requires_grad_()
    gaps = [
        statistic(real.images[real.groups == label]).mean(0)
        - statistic(leaf[synthetic.groups == label]).mean(0)
        for label in (0, 1)
        for statistic in (network.embed, network)
    ]
    loss = sum(gap.square().sum() for gap in gaps)
    (gradient,) = torch.autograd.grad(loss, leaf)
    seen = replace(synthetic, images=synthetic.images.clone().requires_grad_())
    ours = DistributionMatching(logits=True).pull(network, real, seen, rng)
    assert ours[0] == pytest.approx(loss.item())
    torch.testing.assert_close(ours[1], gradient)
