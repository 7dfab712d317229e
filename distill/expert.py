"""Expert trajectories: networks trained on real data, their weights kept after every epoch.

Each kept point is a copy of its own. (Released code keeps ``p.detach().cpu()``, which on a
machine without a GPU is the live tensor itself, so that all points of a trajectory agree.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.networks import Architecture, Network
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import derive
from distill.training import Recipe, train


@final
@dataclass(frozen=True)
class Experts:
    """How experts are trained.

    Attributes:
        architecture: What they are.
        count: Experts, >= 1; 100 in MTT.
        epochs: Passes over the real images, after each of which the weights are kept, >= 1.
        recipe: One pass; momentum starts again with each.
        images: Real images that all experts see, >= 1; None: all.
    """

    architecture: Architecture
    count: int
    epochs: int
    recipe: Recipe
    images: int | None

    def __post_init__(self) -> None:
        whole("experts.count", self.count, 1)
        whole("experts.epochs", self.epochs, 1)
        if self.images is not None:
            whole("experts.images", self.images, 1)

    def begin(self, real: RealData, state: State) -> "Buffer":
        """Returns the experts, none of them trained yet but those in ``state``."""
        return Buffer(self, real, state)


Trajectory = list[dict[str, Tensor]]


@final
class Buffer:
    """Experts that are trained when they are first asked for.

    Which one a caller gets depends on its number alone, so it doesn't matter who asked before.
    """

    def __init__(self, experts: Experts, real: RealData, state: Mapping[str, Any]) -> None:
        self.experts, self.real = experts, real
        self.trained: dict[int, Trajectory] = {int(k): v for k, v in state.items()}
        self.network: Network = real.fresh(experts.architecture, "expert", 0)

    def trajectory(self, number: int) -> Trajectory:
        """Returns the weights of an expert at its start and after every epoch.

        Raises:
            FloatingPointError: If its weights are not finite, or never move.
        """
        if number not in self.trained:
            self.trained[number] = self._train(number)
        return self.trained[number]

    def state(self) -> dict[str, Trajectory]:
        """Returns the experts trained so far."""
        return {str(number): trajectory for number, trajectory in self.trained.items()}

    def _train(self, number: int) -> Trajectory:
        network = self.real.fresh(self.experts.architecture, "expert", number)
        images = self.real.mixed(
            self.experts.images or self.real.size, derive(self.real.seed, "expert images")
        )
        points = [weights_of(network)]
        for epoch in range(self.experts.epochs):
            rng = derive(self.real.seed, "expert training", number, epoch)
            train(network, images, self.experts.recipe, rng)
            points.append(weights_of(network))
        _check_moving(number, points)
        return points


def _check_moving(number: int, points: Trajectory) -> None:
    for before, after in pairwise(points):
        moved = sum((after[name] - w).square().sum().item() for name, w in before.items())
        if not 0 < moved < torch.inf:
            raise FloatingPointError(
                f"expert {number} must move a finite way in every epoch, got a squared distance of "
                f"{moved}; change experts.recipe.learning_rate"
            )
