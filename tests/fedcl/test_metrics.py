"""Metrics of an accuracy matrix agree with arithmetic and with loops from the papers."""

import pytest
import torch

from fedcl.metrics import (
    average_accuracy,
    average_forgetting,
    average_incremental_accuracy,
    backward_transfer,
    forward_transfer,
    intransigence,
    learning_accuracy,
)

# Rows: after training on experience 0, 1, 2. Columns: accuracy on experience 0, 1, 2.
R = torch.tensor([[0.8, 0.1, 0.3], [0.9, 0.7, 0.2], [0.5, 0.75, 0.6]])
B = torch.tensor([0.1, 0.2, 0.05])
ONE = torch.tensor([[0.4]])
OF_MATRIX = [
    average_accuracy,
    average_incremental_accuracy,
    average_forgetting,
    backward_transfer,
    learning_accuracy,
]


@pytest.fixture
def random(rng):
    return torch.rand(6, 6, generator=rng, dtype=torch.float64)


def test_average_accuracy_is_the_mean_of_the_last_row():
    # The last row is 0.5, 0.75, 0.6: (0.5 + 0.75 + 0.6) / 3.
    assert average_accuracy(R) == pytest.approx(1.85 / 3)


def test_average_incremental_accuracy_is_the_mean_of_the_means_over_seen_experiences():
    # Seen so far: 0.8, then (0.9 + 0.7) / 2, then (0.5 + 0.75 + 0.6) / 3.
    assert average_incremental_accuracy(R) == pytest.approx((0.8 + 0.8 + 1.85 / 3) / 3)


def test_average_forgetting_is_the_best_before_the_end_minus_the_end():
    # Experience 0: max(0.8, 0.9) - 0.5 = 0.4; experience 1: 0.7 - 0.75 = -0.05.
    assert average_forgetting(R) == pytest.approx((0.4 - 0.05) / 2)


def test_forgetting_ignores_accuracies_before_an_experience_was_trained_on():
    # Were R[0, 1] = 1 counted, experience 1 would have lost 0.25 instead of -0.05.
    early = R.clone()
    early[0, 1] = 1.0
    assert average_forgetting(early) == pytest.approx(average_forgetting(R))


def test_backward_transfer_is_the_end_minus_just_after_learning():
    # Experience 0: 0.5 - 0.8 = -0.3; experience 1: 0.75 - 0.7 = 0.05.
    assert backward_transfer(R) == pytest.approx((-0.3 + 0.05) / 2)


def test_forward_transfer_is_just_before_learning_minus_untrained():
    # R[0, 1] - b[1] = 0.1 - 0.2 and R[1, 2] - b[2] = 0.2 - 0.05
    assert forward_transfer(R, B) == pytest.approx((-0.1 + 0.15) / 2)


def test_learning_accuracy_is_the_mean_of_the_diagonal():
    assert learning_accuracy(R) == pytest.approx((0.8 + 0.7 + 0.6) / 3)


def test_intransigence_is_what_the_reference_learns_better():
    # 0.9 - 0.8 = 0.1, 0.65 - 0.7 = -0.05, 0.7 - 0.6 = 0.1.
    reference = torch.tensor([0.9, 0.65, 0.7])
    assert intransigence(R, reference) == pytest.approx(0.15 / 3)


def test_a_network_is_as_intransigent_as_it_learns_less_well(random, rng):
    reference = torch.rand(6, generator=rng, dtype=torch.float64)
    expected = reference.mean().item() - learning_accuracy(random)
    assert intransigence(random, reference) == pytest.approx(expected)


def test_metrics_agree_with_naive_loops(random, rng):
    T, b = len(random), torch.rand(6, generator=rng, dtype=torch.float64)
    r = random.tolist()
    forgetting = backward = forward = incremental = 0.0
    for j in range(T - 1):
        forgetting += max(r[k][j] for k in range(j, T - 1)) - r[T - 1][j]
        backward += r[T - 1][j] - r[j][j]
        forward += r[j][j + 1] - b[j + 1].item()
    for i in range(T):
        incremental += sum(r[i][j] for j in range(i + 1)) / (i + 1)
    assert average_accuracy(random) == pytest.approx(sum(r[T - 1]) / T)
    assert average_forgetting(random) == pytest.approx(forgetting / (T - 1))
    assert backward_transfer(random) == pytest.approx(backward / (T - 1))
    assert forward_transfer(random, b) == pytest.approx(forward / (T - 1))
    assert average_incremental_accuracy(random) == pytest.approx(incremental / T)
    assert learning_accuracy(random) == pytest.approx(sum(r[j][j] for j in range(T)) / T)


def test_forgetting_is_at_least_minus_backward_transfer(random):
    # The maximum is never below the accuracy just after learning.
    assert average_forgetting(random) >= -backward_transfer(random)


def test_a_network_that_never_changes_forgets_and_transfers_nothing(rng):
    b = torch.rand(5, generator=rng)
    same = b.expand(5, 5)
    assert average_forgetting(same) == backward_transfer(same) == forward_transfer(same, b) == 0.0


def test_one_experience_has_an_accuracy_and_nothing_to_forget():
    assert average_accuracy(ONE) == average_incremental_accuracy(ONE) == pytest.approx(0.4)
    assert learning_accuracy(ONE) == pytest.approx(0.4)
    assert average_forgetting(ONE) == backward_transfer(ONE) == 0.0
    assert forward_transfer(ONE, torch.tensor([0.1])) == 0.0


@pytest.mark.parametrize("metric", OF_MATRIX)
@pytest.mark.parametrize("shape", [(2, 3), (4,), (0, 0)])
def test_a_matrix_that_is_not_square_is_refused(metric, shape):
    with pytest.raises(ValueError, match=r"accuracies must be a square matrix \(E, E\), got shape"):
        metric(torch.zeros(shape))


@pytest.mark.parametrize("metric", OF_MATRIX)
@pytest.mark.parametrize("value", [1.5, -0.5, float("nan")])
def test_accuracies_outside_the_unit_interval_are_refused(metric, value):
    with pytest.raises(ValueError, match=rf"accuracies must be in \[0, 1\], got {value}"):
        metric(torch.tensor([[0.5, 0.5], [0.5, value]]))


WITH_VECTOR = [(forward_transfer, "untrained"), (intransigence, "reference")]


@pytest.mark.parametrize(("metric", "name"), WITH_VECTOR)
def test_percentages_beside_the_matrix_are_refused(metric, name):
    with pytest.raises(ValueError, match=rf"{name} must be in \[0, 1\], got 10"):
        metric(R, B * 100)


@pytest.mark.parametrize(("metric", "name"), WITH_VECTOR)
def test_another_number_of_accuracies_beside_the_matrix_is_refused(metric, name):
    with pytest.raises(ValueError, match=rf"{name} must have shape \(3,\), .* got \(2,\)"):
        metric(R, B[:2])
