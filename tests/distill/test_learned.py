"""The live set gives images and targets, and takes cotangents in."""

import math
from dataclasses import dataclass
from typing import final

import pytest
import torch

from distill.images import LabelledImages
from distill.labels import HardLabels, LearnedLabels, SoftLabels
from distill.learned import LABELS, RATES, Learned
from distill.parameterisations.base import Code, Decoder, Parameterisation
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.pixels import Pixels

PIXELS = Parameterisation(Pixels(False))


@final
@dataclass(frozen=True)
class Times(Decoder):
    """Rows times a number that was given, 3."""

    @property
    def branches(self) -> int:
        return 1

    @property
    def learned(self) -> bool:
        return False

    def row_shape(self, shape):
        return shape

    def begin(self, real, shape, seed):
        return {"factor": real.images.new_tensor([3.0])}

    def encode(self, parameters, images, labels):
        return images / parameters["factor"]

    def decode(self, parameters, rows, wanted):
        return rows * parameters["factor"]


def code_of(
    labels: list[int], rng: torch.Generator, num_classes: int = 3, part: Parameterisation = PIXELS
) -> Code:
    images = torch.randn(len(labels), 1, 8, 8, generator=rng, dtype=torch.float64)
    first = LabelledImages(images, torch.tensor(labels), num_classes)
    return part.encode(part.decoding(first, 0), first, 0)


def hard(labels: list[int], rng: torch.Generator, **more: torch.Tensor) -> Learned:
    return Learned(code_of(labels, rng), HardLabels(), more)


def soft(rng: torch.Generator) -> Learned:
    """Three images of two classes, of distributions (1/4, 3/4), (1/2, 1/2) and (3/4, 1/4)."""
    third = math.log(3)
    logits = torch.tensor([[0, third], [1, 1], [third, 0]], dtype=torch.float64)
    return Learned(code_of([0, 0, 1], rng, 2), SoftLabels(0.9), {LABELS: logits})


def test_everything_of_the_set_is_learned_by_name(rng):
    part = Parameterisation(Pixels(False), [Hallucinators(2, 1)])
    others = {LABELS: torch.zeros(4, 3), RATES: torch.zeros(1)}
    small = Learned(code_of([0, 2], rng, part=part), LearnedLabels(), others)
    named = {"pixels", "0.inner", "0.outer", "0.scale", "0.shift", LABELS, RATES}
    assert set(small.parameters) == named
    assert all(p.is_leaf and p.requires_grad for p in small.parameters.values())
    assert set(small.others) == {LABELS, RATES}


def test_the_set_shares_no_memory_with_what_it_was_made_of(rng):
    code, labels = code_of([0, 2], rng), torch.zeros(2, 3)
    small = Learned(code, LearnedLabels(), {LABELS: labels})
    before = code.parameters["pixels"].clone()
    with torch.no_grad():
        for parameter in small.parameters.values():
            parameter.add_(1)
    assert torch.equal(code.parameters["pixels"], before)
    assert not labels.any()
    assert not code.parameters["pixels"].requires_grad


def test_what_an_optimiser_moves_is_what_is_decoded(rng):
    small = hard([0, 2], rng)
    with torch.no_grad():
        small.parameters["pixels"].fill_(0.5)
    assert (small.images(torch.tensor([1, 0])) == 0.5).all()


def test_images_have_no_graph_and_the_order_asked(rng):
    small = hard([0, 0, 2], rng)
    images = small.images(torch.tensor([2, 0]))
    assert not images.requires_grad
    assert torch.equal(images, small.parameters["pixels"].detach()[[2, 0]])


def test_targets_of_hard_labels_are_classes(rng):
    targets = hard([0, 0, 2], rng).targets(torch.tensor([2, 1]))
    assert targets.tolist() == [2, 0]
    assert targets.dtype == torch.int64


def test_targets_of_learned_labels_are_read(rng):
    small = soft(rng)
    expected = torch.tensor([[0.75, 0.25], [0.25, 0.75]], dtype=torch.float64)
    targets = small.targets(torch.tensor([2, 0]))
    torch.testing.assert_close(targets, expected)
    assert not targets.requires_grad


def test_length_and_classes_are_those_of_the_images(rng):
    part = Parameterisation(Pixels(False), [Hallucinators(2, 1)])
    small = Learned(code_of([0, 2, 2], rng, part=part), HardLabels(), {})
    assert len(small) == 6
    assert small.classes.tolist() == [0, 0, 2, 2, 2, 2]


def test_all_images_of_each_class_with_any_are_drawn(rng):
    drawn = hard([0, 0, 2], rng).draw(None, rng)
    assert [rows.tolist() for rows in drawn] == [[0, 1], [2]]


def test_some_images_of_each_class_are_drawn_in_order_none_twice(rng):
    small, seen = hard([0] * 5 + [2] * 2, rng), set()
    for _ in range(60):
        few, all_of_them = small.draw(2, rng)
        assert 0 <= few[0] < few[1] < 5
        assert all_of_them.tolist() == [5, 6]
        seen.add(tuple(few.tolist()))
    assert len(seen) == 10  # of five, two


def test_draws_are_those_of_the_generator(rng):
    small = hard([0] * 30, rng)
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    one, same, other = (small.draw(5, seed)[0].tolist() for seed in seeds)
    assert one == same
    assert one != other


def test_pulling_on_images_reaches_their_numbers_only(rng):
    small = hard([0, 0, 2], rng)
    pull = torch.randn(2, 1, 8, 8, generator=rng, dtype=torch.float64)
    small.pull(torch.tensor([2, 0]), pull)
    expected = torch.stack([pull[1], torch.zeros(1, 8, 8), pull[0]])
    assert torch.equal(small.parameters["pixels"].grad, expected)


def test_pulling_passes_through_what_was_given_and_leaves_it(rng):
    small = Learned(
        code_of([0], rng, part=Parameterisation(Pixels(False), [Times()])), HardLabels(), {}
    )
    small.pull(torch.tensor([0]), torch.ones(1, 1, 8, 8, dtype=torch.float64))
    assert set(small.parameters) == {"pixels"}
    assert (small.parameters["pixels"].grad == 3).all()
    assert small.code.parameters["0.factor"].grad is None


def test_pulls_add_up(rng):
    small, pull = hard([0, 2], rng), torch.ones(1, 1, 8, 8, dtype=torch.float64)
    small.pull(torch.tensor([1]), pull)
    small.pull(torch.tensor([1]), pull * 2)
    small.pull(torch.tensor([1, 1]), torch.cat([pull, pull]))
    assert (small.parameters["pixels"].grad[1] == 5).all()
    assert not small.parameters["pixels"].grad[0].any()


def test_pulling_on_targets_reaches_the_logits(rng):
    # image 0: p = (1/4, 3/4); a pull of 1 on the first: p_0 p_1 = 3/16 and -3/16
    small = soft(rng)
    images, targets = torch.zeros(2, 1, 8, 8), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    small.pull(torch.tensor([1, 0]), images.double(), targets.double())
    expected = torch.tensor([[0.1875, -0.1875], [0, 0], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(small.parameters[LABELS].grad, expected)


def test_without_a_pull_on_targets_labels_stay(rng):
    small = soft(rng)
    small.pull(torch.tensor([0]), torch.ones(1, 1, 8, 8, dtype=torch.float64))
    assert small.parameters[LABELS].grad is None


def test_a_pull_on_hard_labels_is_nothing(rng):
    small = hard([0, 2], rng)
    small.pull(torch.tensor([0]), torch.ones(1, 1, 8, 8, dtype=torch.float64), torch.ones(1, 3))
    assert set(small.parameters) == {"pixels"}


def test_rates_are_kept_as_logarithms(rng):
    rates = hard([0], rng, **{RATES: torch.tensor([0.5, 0.01]).log()}).rates
    assert rates == pytest.approx((0.5, 0.01))
    assert hard([0], rng).rates == ()


def test_a_slope_by_a_rate_is_one_by_its_logarithm_times_the_rate(rng):
    # d/d log r = r d/dr; steps 0 and 2 have the first of two rates, step 1 the second
    small = hard([0], rng, **{RATES: torch.tensor([0.5, 0.25]).log()})
    for step, slope in enumerate([1.0, 10.0, 3.0]):
        small.pull_rate(step, slope)
    assert small.parameters[RATES].grad.tolist() == pytest.approx([0.5 * 4, 2.5])


def test_the_slope_by_a_rate_agrees_with_autograd(rng):
    small = hard([0], rng, **{RATES: torch.tensor([0.3], dtype=torch.float64).log()})
    logarithm = small.parameters[RATES].detach().clone().requires_grad_()
    (logarithm.exp() ** 3).sum().backward()  # a loss r^3, of slope 3 r^2
    small.pull_rate(0, 3 * 0.3**2)
    torch.testing.assert_close(small.parameters[RATES].grad, logarithm.grad, rtol=1e-12, atol=0)


def test_a_slope_is_nothing_where_no_rate_is_learned(rng):
    small = hard([0], rng)
    small.pull_rate(0, 1.0)
    assert small.parameters["pixels"].grad is None


def test_as_images_holds_every_image_with_its_class(rng):
    small = hard([0, 0, 2], rng)
    data = small.as_images()
    assert data.labels.tolist() == [0, 0, 2]
    assert (data.num_classes, data.targets) == (3, None)
    assert torch.equal(data.images, small.parameters["pixels"].detach())


def test_as_images_holds_learned_targets(rng):
    data = soft(rng).as_images()
    expected = torch.tensor([[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]], dtype=torch.float64)
    torch.testing.assert_close(data.targets, expected)
    assert data.are_distributions


def test_images_that_were_given_out_stay_as_they_were(rng):
    small = hard([0, 2], rng)
    data = small.as_images()
    before = data.images.clone()
    with torch.no_grad():
        small.parameters["pixels"].zero_()
    assert torch.equal(data.images, before)
    assert not data.images.requires_grad
