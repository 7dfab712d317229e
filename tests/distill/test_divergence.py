"""A run has diverged when its loss is no number, or far above what it was at first."""

import pytest
import torch

from distill.divergence import LEAST, finite, usual_loss


def usual(losses: list[float], bound: float) -> float:
    """Returns what is usual after these losses, the first of them at step 1."""
    before = LEAST
    for step, loss in enumerate(losses, 1):
        before = usual_loss(loss, step, before, bound)
    return before


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([3.0], 3.0), ([3.0, 5.0, 2.0], 3.0), ([0.1, 0.2], 1.0), ([-3.0, 2.0], 1.0)],
)
def test_the_first_loss_is_usual_and_one_at_least(losses, expected):
    assert usual(losses, 100.0) == expected


def test_a_loss_up_to_the_bound_goes_on():
    assert usual([5.0, 3.0, 50.0], 10.0) == 5.0


def test_a_loss_beyond_the_bound_stops_the_run():
    message = (
        r"^the loss must stay within 10 times what it was at first \(5\), got 50\.1 at step 3; "
        r"lower optimiser\.learning_rate, or raise method\.loss_bound$"
    )
    with pytest.raises(FloatingPointError, match=message):
        usual([5.0, 6.0, 50.1], 10.0)


def test_the_first_loss_may_be_anything():
    assert usual([1e9], 10.0) == 1e9


def test_a_start_of_almost_no_loss_may_be_left():
    assert usual([1e-12, 9.9], 10.0) == 1.0
    with pytest.raises(FloatingPointError, match=r"got 10\.1 at step 2"):
        usual([1e-12, 10.1], 10.0)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_at_any_step(loss):
    for losses in ([loss], [1.0] * 20 + [loss]):
        message = rf"^the loss must stay finite, got {loss} at step {len(losses)}; lower optimiser"
        with pytest.raises(FloatingPointError, match=message):
            usual(losses, 10.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value):
    numbers = {"pixels": torch.zeros(2), "labels": torch.tensor([0.0, value])}
    with pytest.raises(
        FloatingPointError, match=r"^the set's labels must stay finite, .* step 4; low"
    ):
        finite(numbers, 4)


def test_finite_numbers_are_taken():
    finite({"pixels": torch.tensor([1e38, -1e38])}, 1)
