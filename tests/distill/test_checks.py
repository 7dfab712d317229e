"""Checks let good values pass, and say what must hold and what came instead."""

import pytest
import torch

from distill import checks


@pytest.mark.parametrize("value", [2, 2.0, 2.5, float("inf")])
def test_a_value_of_at_least_the_minimum_passes(value):
    checks.at_least("size", value, 2)


@pytest.mark.parametrize("value", [1, 1.99, -3, float("nan")])
def test_a_value_below_the_minimum_is_refused(value):
    with pytest.raises(ValueError, match=rf"^size must be >= 2, got {value}$"):
        checks.at_least("size", value, 2)


@pytest.mark.parametrize("value", [1, 7])
def test_a_whole_number_of_at_least_the_minimum_passes(value):
    checks.whole("ipc", value, 1)


def test_a_whole_number_below_the_minimum_is_refused():
    with pytest.raises(ValueError, match=r"^ipc must be >= 1, got 0$"):
        checks.whole("ipc", 0, 1)


@pytest.mark.parametrize("value", [1.0, "10", True, None, [1]], ids=repr)
def test_what_is_not_an_int_is_no_whole_number(value):
    with pytest.raises(TypeError, match=r"^ipc must be a whole number, got "):
        checks.whole("ipc", value, 1)


@pytest.mark.parametrize("value", [1e-9, 3])
def test_a_value_above_zero_is_positive(value):
    checks.positive("rate", value)


@pytest.mark.parametrize("value", [0, 0.0, -1e-9, float("nan")])
def test_zero_and_less_are_not_positive(value):
    with pytest.raises(ValueError, match=rf"^rate must be > 0, got {value}$"):
        checks.positive("rate", value)


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_both_ends_of_the_unit_interval_are_fractions(value):
    checks.fraction("share", value)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_value_outside_the_unit_interval_is_no_fraction(value):
    with pytest.raises(ValueError, match=rf"^share must be in \[0, 1\], got {value}$"):
        checks.fraction("share", value)


@pytest.mark.parametrize("value", [0, 0.5, 0.999])
def test_a_value_from_zero_up_to_one_is_below_one(value):
    checks.below_one("momentum", value)


@pytest.mark.parametrize("value", [-0.01, 1, 1.0, float("nan")])
def test_one_and_more_are_not_below_one(value):
    with pytest.raises(ValueError, match=rf"^momentum must be in \[0, 1\), got {value}$"):
        checks.below_one("momentum", value)


@pytest.mark.parametrize("value", [1e-9, 0.5, 0.999])
def test_a_value_between_zero_and_one_is_inside_one(value):
    checks.inside_one("confidence", value)


@pytest.mark.parametrize("value", [-0.01, 0, 1, float("nan")])
def test_both_ends_of_the_unit_interval_are_not_inside(value):
    with pytest.raises(ValueError, match=rf"^confidence must be in \(0, 1\), got {value}$"):
        checks.inside_one("confidence", value)


@pytest.mark.parametrize("values", [[], [1], (1, 2)])
def test_a_list_passes(values):
    checks.listed("betas", values)


@pytest.mark.parametrize("values", [None, 0.5, "color", {1: 2}], ids=repr)
def test_what_is_no_list_is_refused(values):
    with pytest.raises(TypeError, match=r"^betas must be a list, got "):
        checks.listed("betas", values)


@pytest.mark.parametrize(
    "check",
    [checks.positive, checks.fraction, checks.below_one, checks.inside_one],
    ids=lambda c: c.__name__,
)
@pytest.mark.parametrize("value", ["1e-3", True, None], ids=repr)
def test_what_is_no_number_is_refused_by_its_type(check, value):
    with pytest.raises(TypeError, match=rf"^rate must be a number, got {value!r}$"):
        check("rate", value)


def test_text_has_no_minimum():
    with pytest.raises(TypeError, match=r"^rate must be a number, got '1e-3'$"):
        checks.at_least("rate", "1e-3", 0)


def test_a_known_name_passes():
    checks.one_of("store", "uint8", ("uint8", "float32"))


def test_an_unknown_name_is_refused_with_the_known_ones_in_order():
    with pytest.raises(ValueError, match=r"^unknown store 'jpeg'; known: float32, uint8$"):
        checks.one_of("store", "jpeg", ("uint8", "float32"))


@pytest.mark.parametrize("shape", [(0, 1, 8, 8), (2, 3, 8, 9)])
def test_a_stack_of_images_of_eight_pixels_passes(shape):
    checks.image_stack("images", torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 1, 8, 8), (2, 3, 7, 8), (2, 3, 8, 7)])
def test_other_shapes_are_no_stack_of_images(shape):
    with pytest.raises(ValueError, match=r"^images must have shape \(N, C, H, W\) .* got \("):
        checks.image_stack("images", torch.zeros(shape))
