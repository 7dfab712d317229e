"""Optimisers give every kind of number its own step size."""

import pytest
import torch
from torch import Tensor

from distill.optimisers import SGD, Adam, Optimiser


def moved(optimiser: Optimiser, *gradients: float, name: str = "pixels") -> float:
    """Returns where a number that starts at 0 goes under these gradients."""
    number = torch.zeros(1, requires_grad=True)
    torchs = optimiser.build({name: number, "1.scale": torch.zeros(1)})
    for gradient in gradients:
        number.grad = torch.tensor([gradient])
        torchs.step()
    return number.item()


def test_sgd_goes_against_the_gradient():
    assert moved(SGD(0.5, 0.0), 2.0, -4.0) == -1.0 + 2.0


def test_momentum_repeats_a_share_of_the_last_step():
    # velocities 1 and .5 * 1 + 1 = 1.5, times -.1
    assert moved(SGD(0.1, 0.5), 1.0, 1.0) == pytest.approx(-0.25)


@pytest.mark.parametrize("gradient", [1e-3, 1.0, 1e3])
def test_adams_first_step_is_its_size_whatever_the_gradient(gradient):
    # eps = 1e-8 is 1e-5 of the smallest gradient
    assert moved(Adam(0.25), gradient) == pytest.approx(-0.25, rel=2e-5)


@pytest.mark.parametrize(
    ("betas", "second"),
    [
        # moments after gradients 1 and 0: b (1 - b) over 1 - b^2, which is b / (1 + b);
        # first (1/2) / (3/2) = 1/3, second (1/4) / (5/4) = 1/5
        ([0.5, 0.25], (1 / 3) / (1 / 5) ** 0.5),
        ((0.25, 0.5), (1 / 5) / (1 / 3) ** 0.5),
    ],
)
def test_adams_betas_decay_its_two_moments(betas, second):
    assert moved(Adam(1.0, betas), 1.0, 0.0) == pytest.approx(-1 - second, rel=1e-6)


def test_adam_has_the_betas_of_its_paper():
    torchs = Adam(0.1).build({"pixels": torch.zeros(1, requires_grad=True)})
    assert torchs.param_groups[0]["betas"] == (0.9, 0.999)


@pytest.mark.parametrize("kind", [SGD(0.5, 0.0, {"scale": 0.25}), Adam(0.5, rates={"scale": 0.25})])
@pytest.mark.parametrize(
    ("name", "rate"),
    [("pixels", 0.5), ("scale", 0.25), ("0.scale", 0.25), ("12.scale", 0.25), ("0.scales", 0.5)],
)
def test_rates_are_found_by_name_without_the_decoders_position(kind, name, rate):
    assert moved(kind, 1.0, name=name) == pytest.approx(-rate, rel=1e-6)


@pytest.mark.parametrize("make", [lambda rates: SGD(1.0, 0.0, rates), lambda r: Adam(1.0, rates=r)])
def test_a_step_size_of_no_parameter_is_refused(make):
    message = (
        r"^unknown parameter in optimiser\.rates 'pixles'; known: labels, pixels, rates, scale$"
    )
    with pytest.raises(ValueError, match=message):
        moved(make({"pixels": 2.0, "pixles": 9.0}), 1.0)


def test_step_sizes_of_what_a_setting_does_not_learn_are_left_alone():
    assert moved(SGD(1.0, 0.0, {"labels": 2.0, "rates": 3.0}), 1.0) == -1.0


@pytest.mark.parametrize("kind", [SGD(0.5, 0.0), Adam(0.5)])
def test_every_parameter_has_a_group_in_the_order_given(kind):
    parameters: dict[str, Tensor] = {
        name: torch.zeros(size, requires_grad=True) for size, name in enumerate("cab", 1)
    }
    groups = kind.build(parameters).param_groups
    assert [[len(p) for p in group["params"]] for group in groups] == [[1], [2], [3]]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
@pytest.mark.parametrize("make", [lambda rate: SGD(rate, 0.0), Adam], ids=["SGD", "Adam"])
def test_a_step_size_that_is_not_above_zero_is_refused(make, rate):
    with pytest.raises(ValueError, match=rf"^optimiser\.learning_rate must be > 0, got {rate}$"):
        make(rate)


@pytest.mark.parametrize("make", [lambda rates: SGD(1.0, 0.0, rates), lambda r: Adam(1.0, rates=r)])
def test_another_step_size_that_is_not_above_zero_is_refused(make):
    with pytest.raises(ValueError, match=r"^optimiser\.rates\.labels must be > 0, got 0\.0$"):
        make({"pixels": 1.0, "labels": 0.0})


@pytest.mark.parametrize("momentum", [-0.5, 1.0])
def test_momentum_outside_its_range_is_refused(momentum):
    with pytest.raises(ValueError, match=rf"^optimiser\.momentum must be in .* got {momentum}$"):
        SGD(1.0, momentum)


@pytest.mark.parametrize("betas", [(1.0, 0.5), (0.5, 1.0)])
def test_betas_outside_their_range_are_refused(betas):
    with pytest.raises(ValueError, match=r"^optimiser\.betas must be in \[0, 1\), got 1\.0$"):
        Adam(1.0, betas)


def test_one_beta_is_refused():
    with pytest.raises(ValueError, match=r"^optimiser\.betas must be two numbers, got \[0\.5\]$"):
        Adam(1.0, [0.5])


def test_betas_that_are_no_list_are_refused():
    with pytest.raises(TypeError, match=r"^optimiser\.betas must be a list, got 0\.5$"):
        Adam(1.0, 0.5)


@pytest.mark.parametrize("make", [lambda rates: SGD(1.0, 0.0, rates), lambda r: Adam(1.0, rates=r)])
@pytest.mark.parametrize("rates", [None, 0.5], ids=repr)
def test_other_step_sizes_without_names_are_refused(make, rates):
    message = rf"^optimiser\.rates must map names to step sizes, got {rates}; take {{}}$"
    with pytest.raises(TypeError, match=message):
        make(rates)
