"""Our side of trajectory matching: one expert, and the steps that match it."""

from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor

from benchmarks.released import relative_difference
from benchmarks.setting import Setting
from distill.expert import Trajectory
from distill.learned import RATES
from distill.objectives.trajectory import ExpertDistance
from distill.objectives.unrolled import Unrolled
from distill.real import RealData

RATE, SPAN = 0.01, 2  # size of the inner steps at first; epochs of the expert
WORDS = (
    *("dataset.train_images=1000", "method=mtt", "ipc=10", f"method.rate={RATE}"),
    *("objective.terminal.latest=0", "experts.count=1", f"experts.epochs={SPAN}"),
    *("experts.images=500", "objective.chunk=50"),
)
PLAIN = "augmentation=none"


def unrolled(ours: Setting) -> Unrolled:
    """Returns the objective, which must be of this kind."""
    if not isinstance(ours.method.objective, Unrolled):
        raise TypeError("objective must unroll training")
    return ours.method.objective


def trajectory(ours: Setting) -> Trajectory:
    """Returns the weights of the expert at the start and after every epoch."""
    terminal = unrolled(ours).terminal
    if not isinstance(terminal, ExpertDistance):
        raise TypeError("objective.terminal must be an expert's distance")
    return terminal.experts.begin(RealData(ours.task), {}).trajectory(0)


def doubled(expert: Trajectory) -> Trajectory:
    """Returns the weights in float64."""
    return [{name: weight.double() for name, weight in weights.items()} for weights in expert]


def our_steps(ours: Setting, expert: Trajectory) -> Callable[[], float]:
    """Returns what takes the next step of ours and returns its loss."""
    small, indices = ours.learned(), count()
    pulling = ours.method.objective.begin(RealData(ours.task), {"0": expert})
    optimiser = ours.method.optimiser.build(small.parameters)

    def step() -> float:
        optimiser.zero_grad()
        found = pulling.step(next(indices), small)
        optimiser.step()
        return found

    return step


def differences(
    ours: Setting, expert: Trajectory, leaves: tuple[Tensor, Tensor], loss: Tensor
) -> tuple[float, float]:
    """Returns how far the gradients of the first step are apart, by images and by step size.

    Args:
        ours: Without augmentation, whose numbers the two sides draw differently.
        expert: What both match.
        leaves: The other side's images and step size.
        loss: The other side's loss.
    """
    _, rate = leaves
    by_images, by_rate = torch.autograd.grad(loss, leaves)
    parameters = ours.pulled({"0": expert}).parameters
    by_log = by_rate.view(1) * rate.detach()  # ours learns the logarithm
    return (
        relative_difference(by_images, parameters["pixels"].grad),
        relative_difference(by_log, parameters[RATES].grad),
    )
