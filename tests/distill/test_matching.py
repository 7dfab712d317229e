"""What holds for every statistic, and how a step of matching draws, transforms and pulls back."""

from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, LearnedLabels, SoftLabels
from distill.learned import Learned
from distill.network_sources import Fresh
from distill.networks import ConvNet, Network, fresh
from distill.objectives.attention import AttentionMatching
from distill.objectives.base import Objective, Pulling
from distill.objectives.characteristic import CharacteristicFunction
from distill.objectives.distribution import DistributionMatching
from distill.objectives.features import AlignedFeatures
from distill.objectives.gradient import GradientMatching
from distill.objectives.matching import Matching, Statistic
from distill.objectives.mmd import MeanDiscrepancy
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.real import ClassBatch, RealData
from distill.rng import derive

SHAPE = (3, 8, 8)
STATISTICS = {
    "attention": AttentionMatching(4.0, 0.3),
    "characteristic": CharacteristicFunction(8, 0.5),
    "distribution": DistributionMatching(),
    "features": AlignedFeatures(0.1, 1.0, 2.0, 0.0),
    "centres": AlignedFeatures(0.0, 0.0, 0.0, 1.0),
    "gradient, cosine": GradientMatching("cosine", "all"),
    "gradient, squared": GradientMatching("squared", "all"),
    "gradient, absolute": GradientMatching("absolute", "convolutions"),
    "mmd": MeanDiscrepancy(1.0),
}
OF_FEATURES = [name for name in STATISTICS if not name.startswith("gradient")]
OF_MEANS = [name for name in STATISTICS if name != "centres"]
ZERO_ON_EQUAL_SETS = [
    "attention",
    "distribution",
    "features",
    "gradient, squared",
    "gradient, absolute",
    "mmd",
]
PLAIN = Augmentation([], False)
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
Pull = tuple[float, Tensor]


def convnet(rng: torch.Generator) -> Network:
    return fresh(ConvNet(3, 2), SHAPE, 3, rng).double()


def batch(groups: list[int], rng: torch.Generator) -> ClassBatch:
    images = torch.randn(len(groups), *SHAPE, generator=rng, dtype=torch.float64)
    return ClassBatch(images, torch.tensor(groups), torch.arange(max(groups) + 1))


def repeated(batch: ClassBatch, times: int) -> ClassBatch:
    images = batch.images.repeat(times, 1, 1, 1)
    return ClassBatch(images, batch.groups.repeat(times), batch.labels)


def permuted(batch: ClassBatch, order: Tensor) -> ClassBatch:
    return ClassBatch(batch.images[order], batch.groups[order], batch.labels)


def pulled(name: str, network: Network, real: ClassBatch, synthetic: ClassBatch) -> Pull:
    leaf = replace(synthetic, images=synthetic.images.detach().clone().requires_grad_())
    return STATISTICS[name].pull(network, real, leaf, torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", STATISTICS)
def test_gradient_reaches_synthetic_images_only(rng, name):
    network, real = convnet(rng), batch([0, 0, 1, 1, 2, 2], rng)
    synthetic = batch([0, 1, 1, 2], rng)
    real.images.requires_grad_()
    synthetic.images.requires_grad_()
    _, gradient = STATISTICS[name].pull(network, real, synthetic, rng)
    assert gradient.shape == synthetic.images.shape
    assert gradient.flatten(1).norm(dim=1).min() > 1e-6
    assert not gradient.requires_grad
    assert real.images.grad is None
    assert synthetic.images.grad is None  # it is returned, not added
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", STATISTICS)
def test_the_gradient_is_the_slope_of_the_loss(rng, name):
    # Along a random direction, by central differences: their error is of second order, 1e-10.
    network, real, synthetic = convnet(rng), batch([0, 0, 1, 1], rng), batch([0, 1, 1], rng)
    way = torch.randn(synthetic.images.shape, generator=rng, dtype=torch.float64)
    above, below = (
        pulled(name, network, real, replace(synthetic, images=synthetic.images + h * way))[0]
        for h in (1e-6, -1e-6)
    )
    _, gradient = pulled(name, network, real, synthetic)
    assert (gradient * way).sum().item() == pytest.approx((above - below) / 2e-6, rel=1e-5)


@pytest.mark.parametrize("name", STATISTICS)
def test_network_and_images_stay_as_they_were(rng, name):
    network, real, synthetic = convnet(rng), batch([0, 1, 1], rng), batch([0, 1], rng)
    before = [p.detach().clone() for p in (*network.parameters(), real.images, synthetic.images)]
    pulled(name, network, real, synthetic)
    after = (*network.parameters(), real.images, synthetic.images)
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("name", STATISTICS)
def test_the_order_of_images_does_not_matter(rng, name):
    network, real, synthetic = convnet(rng), batch([0, 0, 1, 1, 2], rng), batch([0, 1, 1, 2], rng)
    order = torch.tensor([3, 2, 0, 1])
    loss, gradient = pulled(name, network, real, synthetic)
    mixed = permuted(real, torch.tensor([4, 2, 0, 3, 1])), permuted(synthetic, order)
    other_loss, other_gradient = pulled(name, network, *mixed)
    assert other_loss == pytest.approx(loss, rel=1e-9)
    torch.testing.assert_close(other_gradient, gradient[order], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OF_MEANS)
def test_a_real_set_taken_many_times_is_the_same_set(rng, name):
    # 70 images are more than are embedded at once.
    network, real, synthetic = convnet(rng), batch([0, 0, 1, 1, 1], rng), batch([0, 1], rng)
    once = pulled(name, network, real, synthetic)
    often = pulled(name, network, repeated(real, 14), synthetic)
    assert often[0] == pytest.approx(once[0], rel=1e-9)
    torch.testing.assert_close(often[1], once[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OF_MEANS)
def test_classes_add_up(rng, name):
    network, real, synthetic = convnet(rng), batch([0, 0, 1, 1, 1], rng), batch([0, 1, 1], rng)
    loss, gradient = pulled(name, network, real, synthetic)
    alone = []
    for group in (0, 1):
        sides = [
            ClassBatch(images, torch.zeros_like(targets), torch.tensor([group]))
            for images, targets in (side.of_group(group) for side in (real, synthetic))
        ]
        alone.append(pulled(name, network, *sides))
    assert alone[0][0] + alone[1][0] == pytest.approx(loss, rel=1e-9)
    torch.testing.assert_close(
        torch.cat([alone[0][1], alone[1][1]]), gradient, rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", ZERO_ON_EQUAL_SETS)
def test_equal_sets_have_neither_loss_nor_gradient(rng, name):
    real = batch([0, 0, 1], rng)
    loss, gradient = pulled(name, convnet(rng), real, real)
    assert loss == pytest.approx(0, abs=1e-12)
    assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", OF_FEATURES)
def test_the_real_side_is_seen_without_a_graph_and_in_chunks(rng, name):
    network, seen = convnet(rng), []
    network.embedding[0].register_forward_hook(
        lambda _module, images, _out: seen.append((len(images[0]), torch.is_grad_enabled()))
    )
    pulled(name, network, batch([0, 1] * 50, rng), batch([0, 1], rng))
    assert sorted(seen) == [(2, True), (36, False), (64, False)]


@pytest.mark.parametrize("name", sorted(set(STATISTICS) - {"characteristic"}))
def test_no_random_number_is_drawn(rng, name):
    network, real, synthetic = convnet(rng), batch([0, 1], rng), batch([0, 1], rng)
    synthetic.images.requires_grad_()
    before = rng.get_state(), torch.get_rng_state()
    STATISTICS[name].pull(network, real, synthetic, rng)
    assert torch.equal(rng.get_state(), before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("name", STATISTICS)
def test_other_classes_are_refused(rng, name):
    real, synthetic = batch([0, 1], rng), batch([0, 1], rng)
    others = replace(synthetic, labels=torch.tensor([0, 2]))
    message = (
        r"^real and synthetic must be of the same classes .* got real \[0, 1\] x .* \[0, 2\] x "
    )
    with pytest.raises(ValueError, match=message):
        pulled(name, convnet(rng), real, others)


@pytest.mark.parametrize("name", STATISTICS)
def test_another_image_shape_is_refused(rng, name):
    real, synthetic = batch([0, 1], rng), batch([0, 1], rng)
    smaller = replace(synthetic, images=synthetic.images[..., :4])
    with pytest.raises(ValueError, match=r"x \(3, 8, 8\), synthetic \[0, 1\] x \(3, 8, 4\)$"):
        pulled(name, convnet(rng), real, smaller)


# --- a step of Matching ---


@final
@dataclass(frozen=True)
class Seen(Statistic):
    """The sum of synthetic pixels, each times the number of its step, and what was shown."""

    real: list[ClassBatch] = field(default_factory=list)
    synthetic: list[ClassBatch] = field(default_factory=list)
    networks: list[Network] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)

    def pull(
        self, network: Network, real: ClassBatch, synthetic: ClassBatch, rng: torch.Generator
    ) -> Pull:
        self.real.append(real)
        self.synthetic.append(replace(synthetic, images=synthetic.images.detach().clone()))
        self.networks.append(network)
        self.drawn.append(torch.rand(1, generator=rng).item())
        return 0.5, torch.full_like(synthetic.images, float(len(self.real)))


def task_of(per_class: list[int], counts: list[int], seed: int = 0) -> Task:
    """Images that are all of one number, and no two the same: 1, 2, 3 and so on."""
    labels = torch.arange(len(per_class)).repeat_interleave(torch.tensor(per_class))
    images = torch.arange(1.0, len(labels) + 1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    real = LabelledImages(images, labels, len(per_class))
    return Task(real, torch.tensor(counts), Normalisation([0.5], [0.25]), seed)


def set_of(task: Task) -> Learned:
    """A set of numbers below zero: -1, -2 and so on."""
    images = -torch.arange(1.0, len(task.labels) + 1).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)
    code = Code(Parameterisation(Pixels(False)), {"pixels": images}, task.counts, (1, 8, 8))
    return Learned(code, HardLabels(), {})


def matching(statistic: Statistic, **changes) -> Matching:
    plain = Matching(statistic, Fresh(ConvNet(2, 1), 1), PLAIN, 3, None)
    return replace(plain, **changes)


def levels(batch: ClassBatch) -> list[int]:
    return [round(level) for level in batch.images.mean((1, 2, 3)).tolist()]


def stepped(objective: Matching, task: Task, steps: int = 1) -> Learned:
    small, pulling = set_of(task), objective.begin(RealData(task), {})
    for index in range(steps):
        pulling.step(index, small)
    return small


def test_a_step_returns_the_loss_and_adds_the_gradient():
    task, seen = task_of([4, 4], [2, 1]), Seen()
    small, pulling = set_of(task), matching(seen).begin(RealData(task), {})
    losses = [pulling.step(index, small) for index in range(2)]
    assert losses == [0.5, 0.5]
    assert small.parameters["pixels"].grad.unique().tolist() == [3.0]  # 1 and 2


def test_rows_of_a_batch_are_the_classes_that_get_images():
    # Class 1 gets none: row 1 of either batch is class 2.
    task, seen = task_of([2, 5, 4], [2, 0, 1]), Seen()
    stepped(matching(seen), task)
    assert levels(seen.synthetic[0]) == [-1, -2, -3]
    assert seen.synthetic[0].groups.tolist() == [0, 0, 1]
    assert seen.real[0].groups.tolist() == [0, 0, 1, 1, 1]
    assert set(levels(seen.real[0])) <= {1, 2, 8, 9, 10, 11}
    for shown in (seen.real[0], seen.synthetic[0]):
        assert shown.labels.tolist() == [0, 2]
    assert seen.synthetic[0].targets.tolist() == [0, 0, 2]


def test_real_batches_are_drawn_anew_without_replacement_up_to_all_of_a_class():
    task, seen = task_of([2, 5], [1, 1]), Seen()
    stepped(matching(seen), task, 8)
    for shown in seen.real:
        assert sorted(levels(shown)[:2]) == [1, 2]
        assert len(set(levels(shown)[2:])) == 3
    assert len({tuple(levels(shown)[2:]) for shown in seen.real}) > 3


def test_all_synthetic_images_are_shown_where_no_batch_is_set():
    task, seen = task_of([4, 4], [4, 2]), Seen()
    stepped(matching(seen), task, 2)
    assert [levels(shown) for shown in seen.synthetic] == [[-1, -2, -3, -4, -5, -6]] * 2


def test_a_synthetic_batch_is_drawn_and_pulled_at_its_rows_only():
    # Class 1 has fewer than the batch: it is shown whole.
    task, seen = task_of([9, 4], [6, 1]), Seen()
    small = stepped(matching(seen, synthetic_batch=2), task)
    shown = levels(seen.synthetic[0])
    assert len(shown) == 3
    assert shown[2] == -7
    assert seen.synthetic[0].groups.tolist() == [0, 0, 1]
    slopes = small.parameters["pixels"].grad.mean((1, 2, 3)).tolist()
    assert [-row - 1 for row, slope in enumerate(slopes) if slope] == sorted(shown, reverse=True)


def test_synthetic_batches_reach_every_image():
    task, seen = task_of([9], [6]), Seen()
    stepped(matching(seen, synthetic_batch=2), task, 20)
    assert {level for shown in seen.synthetic for level in levels(shown)} == set(range(-6, 0))


def test_a_class_has_one_transform_a_step_for_both_sides():
    # Cutout leaves zeros where it cuts: the same place in all images of a class, on both sides.
    task, seen = task_of([4, 4], [2, 2]), Seen()
    stepped(matching(seen, augmentation=Augmentation(["cutout"], False)), task, 6)
    places = []
    for real, synthetic in zip(seen.real, seen.synthetic, strict=True):
        for group in (0, 1):
            images = torch.cat([side.of_group(group)[0] for side in (real, synthetic)])
            holes = (images == 0).flatten(1).unique(dim=0)
            assert len(holes) == 1
            places.append(tuple(holes[0].tolist()))
    assert len(set(places)) > 6


@pytest.mark.parametrize("family", DSA.families)
def test_the_gradient_is_pulled_back_through_the_transform(family):
    # The statistic's cotangent is 1 everywhere: the set's gradient is that of the plain sum of
    # its images under the transforms that the step's stream gives.
    augmentation, task = Augmentation([family], True), task_of([4, 4], [2, 1])
    small = stepped(matching(Seen(), augmentation=augmentation), task)
    rng = derive(task.seed, "step", 0)
    draws = [augmentation.draw(1, (8, 8), rng) for _ in range(2)]
    pixels = small.parameters["pixels"].detach().clone().requires_grad_()
    total = draws[0](pixels[:2]).sum() + draws[1](pixels[2:]).sum()
    (expected,) = torch.autograd.grad(total, pixels)
    torch.testing.assert_close(small.parameters["pixels"].grad, expected)


def test_every_step_has_a_network_of_the_source_and_a_stream_of_its_own():
    task, seen = task_of([4], [1]), Seen()
    stepped(matching(seen, networks=Fresh(ConvNet(2, 1), 2)), task, 4)
    names = [id(network) for network in seen.networks]
    assert [names.index(name) for name in names] == [0, 0, 2, 2]
    assert len(set(seen.drawn)) == 4


def test_the_streams_of_a_step_depend_on_seed_and_number_alone():
    def of(seed: int, steps: list[int]) -> list[tuple[list[int], float]]:
        task, seen = task_of([9], [1], seed), Seen()
        small, pulling = set_of(task), matching(seen).begin(RealData(task), {})
        for index in steps:
            pulling.step(index, small)
        return list(zip(map(levels, seen.real), seen.drawn, strict=True))

    torch.rand(3)
    assert of(5, [2]) == of(5, [0, 1, 2])[2:]
    assert of(5, [2]) != of(6, [2])


def test_the_state_is_that_of_the_networks():
    task = task_of([4], [1])
    assert matching(Seen()).begin(RealData(task), {}).state() == {}


@pytest.mark.parametrize("name", ["real_batch", "synthetic_batch"])
def test_batches_of_no_image_are_refused(name):
    with pytest.raises(ValueError, match=rf"^objective\.{name} must be >= 1, got 0$"):
        matching(Seen(), **{name: 0})


@pytest.mark.parametrize("labels", [LearnedLabels(), SoftLabels(0.9)], ids=str)
def test_labels_to_learn_are_refused(labels):
    message = r"^labels must be hard where a statistic of images is matched$"
    with pytest.raises(ValueError, match=message):
        matching(Seen()).check(labels, [])


def test_a_step_size_to_learn_is_refused():
    message = r"^method\.rate must be null where no training is unrolled, got 0\.02$"
    with pytest.raises(ValueError, match=message):
        matching(Seen()).check(HardLabels(), [0.02])


def test_images_alone_are_not_refused():
    matching(Seen()).check(HardLabels(), [])


@pytest.mark.parametrize("verbs", [Objective, Pulling, Statistic], ids=lambda v: v.__name__)
def test_verbs_cannot_be_made_without_what_they_mean(verbs):
    with pytest.raises(TypeError, match="abstract"):
        verbs()
