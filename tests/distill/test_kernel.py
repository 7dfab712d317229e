"""Kernel ridge regression is the least-squares answer, and its kernels are what they claim."""

import math

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.kernels import FeatureKernel, TangentKernel, tangent
from distill.labels import HardLabels, LearnedLabels, SoftLabels, centred
from distill.learned import LABELS, Learned
from distill.network_sources import Fresh
from distill.networks import MLP
from distill.objectives.kernel import KernelRidge, ridge_answers
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.real import RealData
from distill.rng import derive

PLAIN = Augmentation([], False)


@pytest.fixture
def real(rng) -> RealData:
    images = torch.randn(30, 1, 8, 8, generator=rng)
    labels = torch.arange(3).repeat_interleave(10)
    task = Task(
        LabelledImages(images, labels, 3), torch.tensor([2, 1, 2]), Normalisation([0.5], [0.25]), 0
    )
    return RealData(task)


def small_set(rng, labels=None) -> Learned:
    pixels = torch.randn(5, 1, 8, 8, generator=rng)
    counts = torch.tensor([2, 1, 2])
    code = Code(Parameterisation(Pixels(False)), {"pixels": pixels}, counts, (1, 8, 8))
    start = LabelledImages(pixels, code.labels, 3)
    task = Task(start, counts, Normalisation([0.5], [0.25]), 0)
    others = {} if labels is None else {LABELS: labels.begin(start, RealData(task))}
    return Learned(code, labels or HardLabels(), others)


def test_answers_agree_with_arithmetic():
    # K_ss = diag(1, 3), mean 2, ridge .5: the regular matrix is diag(2, 4); weights (1, 1/4) * y.
    answers = ridge_answers(
        torch.tensor([[2.0, 4.0]]),
        torch.diag(torch.tensor([1.0, 3.0])),
        torch.tensor([[1.0], [8.0]]),
        0.5,
    )
    assert answers.item() == pytest.approx(2 * 0.5 + 4 * 2)


@pytest.mark.parametrize("labels", [None, LearnedLabels()])
def test_loss_and_gradients_agree_with_the_formula(real, rng, labels):
    small = small_set(rng, labels)
    objective = KernelRidge(FeatureKernel(Fresh(MLP(6, 1), 1)), 1e-2, 8, PLAIN)
    loss = objective.begin(real, {}).step(4, small)
    network = real.fresh(MLP(6, 1), "network", 4)
    drawn = real.mixed(8, derive(0, "step", 4))
    s = network.embed(small.parameters["pixels"])
    y = small.others[LABELS] if labels else centred(small.classes, 3)
    among = s @ s.T
    regular = among + 1e-2 * among.trace() / 5 * torch.eye(5)
    answers = network.embed(drawn.images) @ s.T @ regular.inverse() @ y
    expected = (answers - centred(drawn.labels, 3)).square().sum() / 16
    assert loss == pytest.approx(expected.item(), rel=1e-3)
    wanted = torch.autograd.grad(expected, list(small.parameters.values()))
    for value, gradient in zip(small.parameters.values(), wanted, strict=True):
        torch.testing.assert_close(value.grad, gradient, rtol=1e-2, atol=1e-4)
        assert gradient.abs().max() > 1e-3


def test_more_images_than_features_have_the_answer_of_ridge_regression_on_features(rng):
    # n images of D < n features: K_ss has rank D, and the smallest of its regular eigenvalues is
    # 1e-8 of the largest. The primal problem, of size D, is well posed.
    task = Task(
        LabelledImages(
            torch.randn(300, 1, 8, 8, generator=rng), torch.arange(3).repeat_interleave(100), 3
        ),
        torch.tensor([40, 40, 40]),
        Normalisation([0.5], [0.25]),
        0,
    )
    real = RealData(task)
    pixels = torch.randn(120, 1, 8, 8, generator=rng)
    code = Code(Parameterisation(Pixels(False)), {"pixels": pixels}, task.counts, (1, 8, 8))
    small = Learned(code, HardLabels(), {})
    objective = KernelRidge(FeatureKernel(Fresh(MLP(6, 1), 1)), 1e-6, 8, PLAIN)
    loss = objective.begin(real, {}).step(0, small)
    network, drawn = real.fresh(MLP(6, 1), "network", 0), real.mixed(8, derive(0, "step", 0))
    s, t = (network.embed(x).detach().double() for x in (pixels, drawn.images))
    weight = 1e-6 * s.square().sum() / 120
    regular = s.T @ s + weight * torch.eye(6)
    answers = t @ torch.linalg.solve(regular, s.T @ centred(small.classes, 3).double())
    expected = (answers - centred(drawn.labels, 3)).square().sum() / 16
    assert loss == pytest.approx(expected.item(), rel=1e-6)


def test_distributions_are_refused_since_real_labels_are_centred():
    objective = KernelRidge(FeatureKernel(Fresh(MLP(6, 1), 1)), 1e-2, 8, PLAIN)
    for labels in (HardLabels(), LearnedLabels()):
        objective.check(labels, [])
    message = r"^labels must be hard or learned where .*, got distributions; take labels=learned$"
    with pytest.raises(ValueError, match=message):
        objective.check(SoftLabels(0.9), [])


def test_a_step_size_to_learn_is_refused():
    objective = KernelRidge(FeatureKernel(Fresh(MLP(6, 1), 1)), 1e-2, 8, PLAIN)
    message = r"^method\.rate must be null where no training is unrolled, got 0\.02$"
    with pytest.raises(ValueError, match=message):
        objective.check(HardLabels(), [0.02])


def test_hard_labels_take_no_gradient_and_the_networks_none(real, rng):
    small = small_set(rng)
    KernelRidge(FeatureKernel(Fresh(MLP(6, 1), 1)), 1e-2, 8, PLAIN).begin(real, {}).step(0, small)
    assert list(small.parameters) == ["pixels"]
    assert small.parameters["pixels"].grad.abs().max() > 0


def layer(covariance: float, left: float, right: float) -> tuple[float, float]:
    """Cho and Saul's arc-cosine formulas of one pair, written with angles."""
    scale = math.sqrt(left * right)
    phi = math.acos(covariance / scale)
    grown = scale / math.pi * (math.sin(phi) + (math.pi - phi) * math.cos(phi))
    return grown, (math.pi - phi) / math.pi


@pytest.mark.parametrize("depth", [1, 3])
def test_the_tangent_kernel_follows_the_recursion(rng, depth):
    a, b = torch.randn(2, 12, generator=rng, dtype=torch.float64)
    left, right = (a @ a).item() / 12, (b @ b).item() / 12
    covariance = kernel = (a @ b).item() / 12
    for _ in range(depth):
        covariance, slope = layer(covariance, left, right)
        kernel = covariance + kernel * slope
    assert tangent(a.view(1, -1), b.view(1, -1), depth).item() == pytest.approx(kernel, rel=1e-9)


def test_an_image_with_itself_has_depth_plus_one_times_its_square(rng):
    # phi = 0: the covariance stays, the slope is 1, so each layer adds the covariance once.
    a = torch.randn(1, 12, generator=rng, dtype=torch.float64)
    assert tangent(a, a, 3).item() == pytest.approx(4 * a.square().mean().item(), rel=1e-5)


def test_the_tangent_kernel_is_that_of_a_wide_network(rng):
    # One hidden layer of N units, He-scaled: <grad f(a), grad f(b)> for f = v relu(W x) sqrt(2/N),
    # W and v standard normal, x / sqrt(d), converges to Theta of depth 1.
    a, b = torch.randn(2, 6, generator=rng, dtype=torch.float64)
    units = 200_000
    W = torch.randn(units, 6, generator=rng, dtype=torch.float64)
    v = torch.randn(units, generator=rng, dtype=torch.float64)

    def by_hand(x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = W @ (x / 6**0.5)
        return hidden.relu(), (hidden > 0) * v

    (ra, ga), (rb, gb) = by_hand(a), by_hand(b)
    measured = 2 / units * ((ra @ rb) + (ga @ gb) * (a @ b) / 6)
    exact = tangent(a.view(1, -1), b.view(1, -1), 1).item()
    assert measured.item() == pytest.approx(exact, abs=0.02 * a.norm().item() * b.norm().item() / 6)


def test_the_tangent_kernel_distils_without_any_network(real, rng):
    small = small_set(rng, LearnedLabels())
    loss = KernelRidge(TangentKernel(2), 1e-6, 8, PLAIN).begin(real, {}).step(0, small)
    assert math.isfinite(loss)
    assert small.parameters["pixels"].grad.isfinite().all()
    assert small.others[LABELS].grad.abs().max() > 0
