"""Unrolled training has the gradient that back-propagation through all of it would have."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.condenser import State, Task
from distill.images import LabelledImages, Normalisation
from distill.labels import HardLabels, SoftLabels
from distill.learned import LABELS, RATES, Learned
from distill.networks import ConvNet, Network
from distill.objectives.real_loss import RealLoss
from distill.objectives.unrolled import Ending, Terminal, Unrolled
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.pullback import Weights, weights_of
from distill.real import RealData
from distill.rng import derive

PLAIN = Augmentation([], False)
DSA = Augmentation(["color", "crop", "cutout", "flip", "scale", "rotate"], True)
HALF = Normalisation([0.5], [0.25])


@final
@dataclass(frozen=True)
class Distance(Terminal):
    """Half the squared length of the weights, whose gradient is the weights themselves."""

    network: Network
    first: dict[str, Tensor]
    ends: list[Weights] = field(default_factory=list)

    def begin(self, real: RealData, state: State) -> Ending:
        return _Distance(self)


class _Distance(Ending):
    def __init__(self, terminal: Distance) -> None:
        self.terminal = terminal

    def start(self, index: int) -> tuple[Network, Weights]:
        return self.terminal.network, self.terminal.first

    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        self.terminal.ends.append(weights)
        return half_length(weights).item(), dict(weights)

    def state(self) -> State:
        return {}


def half_length(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([w.square().sum() for w in weights.values()]).sum() / 2


@pytest.fixture
def real(rng) -> RealData:
    images = torch.randn(12, 1, 8, 8, generator=rng, dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(4)
    counts = torch.tensor([2, 1, 2])
    return RealData(Task(LabelledImages(images, labels, 3), counts, HALF, 0))


@pytest.fixture
def terminal(rng) -> Distance:
    network = ConvNet(3, 1).build((1, 8, 8), 3).double()
    first = {
        name: torch.randn(w.shape, generator=rng, dtype=torch.float64) * 0.4
        for name, w in network.named_parameters()
    }
    return Distance(network, first)


def small_set(rng, labels=None, rates=()) -> Learned:
    """Five images of three classes: two, one, two."""
    pixels = torch.randn(5, 1, 8, 8, generator=rng, dtype=torch.float64)
    counts = torch.tensor([2, 1, 2])
    code = Code(Parameterisation(Pixels(False)), {"pixels": pixels}, counts, (1, 8, 8))
    others = {RATES: torch.tensor(rates, dtype=torch.float64).log()} if rates else {}
    if labels is not None:
        start = LabelledImages(pixels, code.labels, 3)
        task = Task(start, counts, HALF, 0)
        others[LABELS] = labels.begin(start, RealData(task)).double()
    return Learned(code, labels or HardLabels(), others)


def unrolled(terminal: Terminal, **values) -> Unrolled:
    plain = Unrolled(terminal, 4, 0.3, 0.0, None, False, PLAIN, True, None, None)
    return replace(plain, **values)


def trained(small: Learned, terminal: Distance, how: Unrolled, rng) -> Mapping[str, Tensor]:
    """Training as the paper writes it, with the graph of all of it."""
    weights = {name: w.clone().requires_grad_() for name, w in terminal.first.items()}
    moment, steps = None, how.inner_steps
    if how.window is not None:
        steps = int(torch.randint(how.window, steps + 1, (1,), generator=rng))
    left_out = int(how.dropped * steps)
    kept = torch.randperm(steps, generator=rng)[left_out:].tolist() if left_out else range(steps)
    for inner in sorted(kept):
        if how.window is not None and inner == steps - how.window and moment is not None:
            weights, moment = (
                {k: w.detach().requires_grad_() for k, w in held.items()}
                for held in (weights, moment)
            )
        rows = torch.cat(small.draw(how.batch, rng))
        images = how.augmentation.draw(len(rows), (8, 8), rng)(small.parameters["pixels"][rows])
        targets = small.classes[rows]
        if LABELS in small.others:
            targets = small.others[LABELS][rows].softmax(1)
        loss = F.cross_entropy(functional_call(terminal.network, weights, (images,)), targets)
        found = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        slopes = dict(zip(weights, found, strict=True))
        moment = (
            slopes
            if moment is None
            else {k: how.momentum * moment[k] + g for k, g in slopes.items()}
        )
        rates = small.others.get(RATES)
        rate = how.step_size if rates is None else rates[inner % len(rates)].exp()
        weights = {k: w - rate * moment[k] for k, w in weights.items()}
    return weights


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("augmentation", [PLAIN, DSA])
@pytest.mark.parametrize("batch", [None, 1])
def test_the_gradient_is_that_of_the_whole_graph(
    real, terminal, rng, momentum, augmentation, batch
):
    small = small_set(rng, SoftLabels(0.8), [0.3, 0.2, 0.1])
    how = unrolled(terminal, momentum=momentum, augmentation=augmentation, batch=batch)
    loss = how.begin(real, {}).step(7, small)
    end = trained(small, terminal, how, derive(0, "step", 7))
    expected = torch.autograd.grad(half_length(end), list(small.parameters.values()))
    assert loss == pytest.approx(half_length(end).item(), rel=1e-12)
    for (name, value), wanted in zip(small.parameters.items(), expected, strict=True):
        torch.testing.assert_close(value.grad, wanted, rtol=1e-9, atol=1e-12, msg=name)
        assert wanted.abs().max() > 1e-6


def test_of_six_steps_a_third_is_left_out_and_gets_no_gradient(real, terminal, rng):
    small = small_set(rng, SoftLabels(0.8), [0.3, 0.2, 0.1, 0.15, 0.25, 0.05])
    how = unrolled(terminal, inner_steps=6, momentum=0.9, batch=1, dropped=0.4, augmentation=DSA)
    how.begin(real, {}).step(7, small)
    end = trained(small, terminal, how, derive(0, "step", 7))
    expected = torch.autograd.grad(half_length(end), list(small.parameters.values()))
    for (name, value), wanted in zip(small.parameters.items(), expected, strict=True):
        torch.testing.assert_close(value.grad, wanted, rtol=1e-9, atol=1e-12, msg=name)
    assert (small.others[RATES].grad != 0).sum() == 4


def test_the_steps_left_out_are_drawn_each_time(real, terminal):
    pulling = unrolled(terminal, dropped=0.5).begin(real, {})
    kept = {tuple(pulling._kept(4, derive(0, "step", index))) for index in range(60)}
    assert kept == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


@pytest.mark.parametrize("index", range(4))
def test_a_window_takes_the_gradient_of_the_last_steps_of_a_drawn_number(
    real, terminal, rng, index
):
    small = small_set(rng, SoftLabels(0.8), [0.3, 0.2, 0.1, 0.15, 0.25])
    how = unrolled(terminal, inner_steps=5, window=2, momentum=0.9, batch=1, augmentation=DSA)
    how.begin(real, {}).step(index, small)
    end = trained(small, terminal, how, derive(0, "step", index))
    expected = torch.autograd.grad(half_length(end), list(small.parameters.values()))
    for (name, value), wanted in zip(small.parameters.items(), expected, strict=True):
        torch.testing.assert_close(value.grad, wanted, rtol=1e-9, atol=1e-12, msg=name)
    assert (small.others[RATES].grad != 0).sum() == 2


def test_a_window_ends_training_anywhere_from_its_length_to_all_steps(real, terminal, rng):
    pulling = unrolled(terminal, inner_steps=5, window=3).begin(real, {})
    lengths = [pulling._length(derive(0, "step", index)) for index in range(60)]
    assert set(lengths) == {3, 4, 5}


def test_a_window_of_all_steps_is_no_window(real, terminal, rng):
    gradients = []
    for window in (None, 4):
        small = small_set(torch.Generator().manual_seed(1))
        unrolled(terminal, window=window).begin(real, {}).step(0, small)
        gradients.append(small.parameters["pixels"].grad)
    assert gradients[0].equal(gradients[1])


def test_one_step_agrees_with_arithmetic(real, terminal, rng):
    # One step of size a from w along -g: by a the loss |w - a g|^2 / 2 has the slope
    # -<w - a g, g>, which is what the learned logarithm gets, times a.
    small = small_set(rng, rates=[0.3])
    how = unrolled(terminal, inner_steps=1)
    how.begin(real, {}).step(0, small)
    end = terminal.ends[0]
    slopes = {k: (w - end[k]) / 0.3 for k, w in terminal.first.items()}
    expected = -sum((end[k] * g).sum() for k, g in slopes.items()) * 0.3
    torch.testing.assert_close(small.others[RATES].grad, expected.reshape(1))


def test_tesla_is_exact_for_one_step_and_points_the_same_way_for_more(real, terminal, rng):
    gradients = {}
    for steps in (1, 4):
        for exact in (True, False):
            small = small_set(torch.Generator().manual_seed(1))
            unrolled(terminal, inner_steps=steps, exact=exact).begin(real, {}).step(0, small)
            gradients[steps, exact] = small.parameters["pixels"].grad.flatten()
    torch.testing.assert_close(gradients[1, True], gradients[1, False], rtol=1e-12, atol=0)
    cosine = F.cosine_similarity(gradients[4, True], gradients[4, False], dim=0)
    assert 0 < cosine < 0.9999


def test_chunks_change_nothing(real, terminal, rng):
    gradients = []
    for chunk in (None, 2):
        small = small_set(torch.Generator().manual_seed(1))
        unrolled(terminal, chunk=chunk).begin(real, {}).step(0, small)
        gradients.append(small.parameters["pixels"].grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_no_more_images_than_a_chunk_are_seen_at_once(real, terminal, rng):
    seen = []
    terminal.network.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    unrolled(terminal, chunk=2).begin(real, {}).step(0, small_set(rng))
    assert seen == [2, 2, 1] * 8  # five images, four inner steps, there and back


def test_ordered_steps_take_the_images_in_turn(real, terminal, rng):
    # One image of each class a step: rows 0, 2, 3, then 1, 2 (class 1 has one), 4, then again.
    how = unrolled(terminal, batch=1, ordered=True)
    pulling = how.begin(real, {})
    small = small_set(rng)
    rows = [pulling._rows(small, inner, rng).tolist() for inner in range(3)]
    assert rows == [[0, 2, 3], [1, 2, 4], [0, 2, 3]]


def test_the_step_size_is_the_objectives_where_the_set_learns_none(real, terminal, rng):
    small = small_set(rng)
    unrolled(terminal, inner_steps=1, step_size=1e-9).begin(real, {}).step(0, small)
    for name, weight in terminal.first.items():
        torch.testing.assert_close(terminal.ends[0][name], weight, rtol=0, atol=1e-6)


def test_the_real_loss_and_its_gradient_are_autograds(rng):
    images = torch.randn(12, 1, 8, 8, generator=rng)
    labels = torch.arange(3).repeat_interleave(4)
    real = RealData(
        Task(LabelledImages(images, labels, 3), torch.ones(3, dtype=torch.int64), HALF, 0)
    )
    ending = RealLoss(ConvNet(3, 1), 4, chunk=5).begin(real, {})
    network, first = ending.start(3)
    loss, slopes = ending.end(3, first)
    leaves = {name: w.clone().requires_grad_() for name, w in first.items()}
    expected = F.cross_entropy(functional_call(network, leaves, (images,)), labels)
    wanted = torch.autograd.grad(expected, list(leaves.values()))
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for found, slope in zip(slopes.values(), wanted, strict=True):
        torch.testing.assert_close(found, slope, rtol=1e-4, atol=1e-6)


def test_real_loss_starts_anew_each_step_and_again_the_same(real):
    ending = RealLoss(ConvNet(3, 1), 4).begin(real, {})
    first, second, again = (weights_of(ending.start(k)[0]) for k in (0, 1, 0))
    assert not first["classifier.weight"].equal(second["classifier.weight"])
    assert first["classifier.weight"].equal(again["classifier.weight"])


def test_leaving_all_steps_out_is_refused(terminal):
    with pytest.raises(ValueError, match=r"objective\.dropped must be in \[0, 1\), got 1"):
        unrolled(terminal, dropped=1)


def test_momentum_is_refused_with_the_approximation(terminal):
    with pytest.raises(ValueError, match=r"objective\.momentum must be 0 with .*, got 0\.9"):
        unrolled(terminal, momentum=0.9, exact=False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("inner_steps", 0), ("step_size", 0.0), ("batch", 0), ("chunk", 0)),
        *(("window", 0), ("window", 5)),  # of four steps
    ],
)
def test_bad_fields_are_refused(terminal, field, value):
    with pytest.raises(ValueError, match=rf"objective\.{field} must be"):
        unrolled(terminal, **{field: value})


def test_more_step_sizes_than_steps_are_refused(terminal):
    how = unrolled(terminal, inner_steps=3)
    how.check(HardLabels(), [0.1] * 3)
    message = r"^method\.rate_count must be <= objective\.inner_steps=3, got 4$"
    with pytest.raises(ValueError, match=message):
        how.check(HardLabels(), [0.1] * 4)
