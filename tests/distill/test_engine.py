"""Distilling is exact, repeatable, resumable, and takes any classes and sizes."""

from dataclasses import replace

import pytest
import torch

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.coresets import KMeans, Noise, Random
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, ConvNet
from distill.objectives.distribution import DistributionMatching
from distill.parameterisations.pixels import Pixels

NORMAL = Normalisation([0.5], [0.25])
METHOD = Distillation(
    objective=DistributionMatching(),
    parameterisation=Pixels(clip=True),
    start=Random(),
    network=ConvNet(4, 2),
    steps_per_network=2,
    augmentation=Augmentation(["color", "crop", "cutout", "scale", "rotate"], mirror=False),
    iterations=5,
    real_batch=8,
    learning_rate=1.0,
    momentum=0.5,
)


def task(counts=(2, 0, 1), side: int = 8, channels: int = 1) -> Task:
    rng = torch.Generator().manual_seed(1)
    labels = torch.tensor([0] * 12 + [2] * 5)
    pixels = torch.randint(0, 256, (17, channels, side, side), generator=rng, dtype=torch.uint8)
    normal = Normalisation([0.5] * channels, [0.25] * channels)
    real = LabelledImages(normal(pixels), labels, 3)
    return Task(real, torch.tensor(counts), normal, seed=3)


def test_equal_seeds_give_equal_bytes_whatever_the_global_generator():
    first = condense(METHOD, task())
    torch.rand(7)
    assert condense(METHOD, task()).data.images.equal(first.data.images)
    assert not condense(METHOD, replace(task(), seed=4)).data.images.equal(first.data.images)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_resumes_from_any_step_with_the_same_bytes(stop, tmp_path):
    steps = METHOD.steps(task())
    state = [next(steps) for _ in range(stop)][-1].state()
    torch.save(state, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    *_, last = METHOD.steps(task(), saved)
    assert last.done == METHOD.iterations
    assert last.result().data.images.equal(condense(METHOD, task()).data.images)


def test_missing_and_unequal_classes_keep_their_labels():
    small = condense(METHOD, task((3, 0, 1)))
    assert small.data.labels.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (32, 3), (9, 3)])
def test_grey_and_colour_images_of_any_size(side, channels):
    method = replace(METHOD, iterations=1)
    small = condense(method, task(side=side, channels=channels))
    assert small.data.image_shape == (channels, side, side)
    assert small.data.images.isfinite().all()


def test_one_step_is_plain_autograd_through_the_loss():
    # One network, no augmentation, the whole real set: x - lr * dL/dx, no momentum yet.
    plain = replace(
        METHOD,
        augmentation=Augmentation([], mirror=False),
        parameterisation=Pixels(clip=False),
        network=MLP(6, 1),
        real_batch=100,
        iterations=1,
    )
    wanted = task((2, 0, 1))
    start = condense(Random(), wanted).data
    images = start.images.clone().requires_grad_()
    step = next(plain.steps(wanted))
    from distill.networks import fresh
    from distill.rng import derive

    network = fresh(MLP(6, 1), (1, 8, 8), 3, derive(3, "network", 0))
    loss = sum(
        (
            network.embed(wanted.real.of_class(c)).mean(0)
            - network.embed(images[start.labels == c]).mean(0)
        )
        .square()
        .sum()
        for c in (0, 2)
    )
    loss.backward()
    torch.testing.assert_close(step.result().data.images, images.detach() - images.grad)
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)


def test_distilling_brings_class_means_closer():
    method = replace(METHOD, iterations=60, start=Noise(), network=MLP(16, 1), steps_per_network=1)
    method = replace(method, augmentation=Augmentation([], mirror=False))
    losses = [step.loss for step in method.steps(task())]
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_clipped_pixels_stay_in_the_range_of_real_ones():
    small = condense(replace(METHOD, learning_rate=1e3), task())
    assert small.data.images.min() >= -2.0
    assert small.data.images.max() <= 2.0  # (1 - 0.5) / 0.25


def test_origin_tells_whether_real_images_were_started_from():
    assert condense(METHOD, task()).origin == "real"
    assert condense(replace(METHOD, start=KMeans()), task()).origin == "real"
    assert condense(replace(METHOD, start=Noise()), task()).origin == "noise"


def test_a_loss_that_is_not_finite_stops_the_run():
    wild = replace(METHOD, learning_rate=1e38, parameterisation=Pixels(clip=False))
    with pytest.raises(FloatingPointError, match=r"stay finite, .*lower method.learning_rate"):
        condense(wild, task())


@pytest.mark.parametrize(
    ("field", "value"), [("iterations", 0), ("real_batch", 0), ("steps_per_network", 0)]
)
def test_values_below_one_are_refused(field, value):
    with pytest.raises(ValueError, match=f"method.{field} must be >= 1, got 0"):
        replace(METHOD, **{field: value})
