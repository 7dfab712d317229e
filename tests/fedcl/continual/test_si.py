"""Synaptic intelligence adds up what a weight's moves take off the loss."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fedcl.continual.anchor import Anchor
from fedcl.continual.si import Path, SynapticIntelligence

RECIPE = SimpleNamespace(learning_rate=0.1)


class Point(nn.Module):
    """One weight."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(weight))


def follow(lesson, network: Point, gradients: list[float], rate: float) -> Anchor:
    """Takes steps of plain gradient descent as the loop does; returns what they leave."""
    for gradient in gradients:
        network.w.grad = torch.tensor(gradient)
        lesson.adjust(network, None)
        with torch.no_grad():
            network.w -= rate * network.w.grad
        lesson.stepped(network)
    return Anchor.left_in(lesson.leave(network, None, None))


def test_importance_is_worked_by_hand():
    # From 0 by gradients -4 and -2 at rate 1/2: moves 2 and 1, integral 4*2 + 2*1 = 10, move 3:
    # importance 10 / (9 + 1).
    network = Point(0.0)
    lesson = SynapticIntelligence(1.0, 1.0).lesson(
        SimpleNamespace(network=network, left={}, recipe=RECIPE)
    )
    anchor = follow(lesson, network, [-4.0, -2.0], 0.5)
    assert (anchor.weights["w"].item(), anchor.importance["w"].item()) == (3.0, 1.0)


def test_the_penalty_pulls_and_its_gradient_is_no_part_of_the_path():
    # Held at 3 by importance 1 and c = 2, now at 4: the loss's gradient -6 gets 2*2*1*(4-3) = 4
    # and moves the weight by 1/2 * 2 = 1. The integral has 6 * 1, not 2 * 1: 1 + 6 / (1 + 1).
    network, old = Point(4.0), Anchor({"w": torch.tensor(3.0)}, {"w": torch.tensor(1.0)})
    moment = SimpleNamespace(network=network, left=old.state(), recipe=RECIPE)
    anchor = follow(SynapticIntelligence(2.0, 1.0).lesson(moment), network, [-6.0], 0.5)
    assert (anchor.weights["w"].item(), anchor.importance["w"].item()) == (5.0, 4.0)


def test_importance_is_never_below_zero():
    # Up the slope: the integral is -1 * 1, and nothing pushes the weight away afterwards.
    network = Point(0.0)
    lesson = SynapticIntelligence(1.0, 1.0).lesson(
        SimpleNamespace(network=network, left={}, recipe=RECIPE)
    )
    assert follow(lesson, network, [1.0], -1.0).importance["w"].item() == 0.0


def test_on_a_parabola_short_steps_find_the_drop_of_the_loss():
    # Loss 3 w^2 from w = 1 towards 0: the integral is the drop, up to the length of the steps.
    network = Point(1.0)
    path = Path(network)
    for _ in range(2000):
        path_gradient = 6 * network.w.detach()
        network.w.grad = path_gradient.clone()
        path.before_step(network)
        with torch.no_grad():
            network.w -= 1e-3 * network.w.grad
        path.after_step(network)
    assert path.integral["w"].item() == pytest.approx(3.0, rel=0.01)


def test_wrong_values_are_refused():
    with pytest.raises(ValueError, match=r"continual.strength must be >= 0, got -1"):
        SynapticIntelligence(-1.0, 0.1)
    with pytest.raises(ValueError, match=r"continual.damping must be > 0, got 0"):
        SynapticIntelligence(1.0, 0.0)
