"""Expert trajectories: networks trained on real data, their weights kept after every epoch.

Each kept point is a copy of its own. (Released code keeps ``p.detach().cpu()``, which on a
machine without a GPU is the live tensor itself, so that all points of a trajectory agree.)
"""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from distill.checks import whole
from distill.condenser import State
from distill.expert_store import ExpertStore, described
from distill.images import LabelledImages
from distill.networks import Architecture, Network, fresh
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import derive
from distill.training import Recipe, train

logger = logging.getLogger(__name__)


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
        folder: Where they are kept, and found again by a later run that wants the same; None:
            nowhere but in a run's checkpoint.
        seed: Names their random streams, >= 0, so that tasks of several seeds can share them;
            None: the task's.
    """

    architecture: Architecture
    count: int
    epochs: int
    recipe: Recipe
    images: int | None
    folder: str | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        whole("experts.count", self.count, 1)
        whole("experts.epochs", self.epochs, 1)
        if self.images is not None:
            whole("experts.images", self.images, 1)
        if self.seed is not None:
            whole("experts.seed", self.seed, 0)

    def begin(self, real: RealData, state: State) -> "Buffer":
        """Returns the experts, none of them trained yet but those in ``state``.

        All who ask for equal experts on the same real images get the same.
        """
        return real.once(self, lambda: Buffer(self, real, state))


Trajectory = list[dict[str, Tensor]]


@final
class Buffer:
    """Experts that are trained, or read, when they are first asked for.

    Which one a caller gets depends on its number alone, so it doesn't matter who asked before.
    """

    def __init__(self, experts: Experts, real: RealData, state: Mapping[str, Any]) -> None:
        self.experts, self.real = experts, real
        self.seed = real.seed if experts.seed is None else experts.seed
        self.trained: dict[int, Trajectory] = {int(k): v for k, v in state.items()}
        self.network = self._fresh(0)

    def trajectory(self, number: int) -> Trajectory:
        """Returns the weights of an expert at its start and after every epoch.

        Raises:
            ValueError: If the file in ``experts.folder`` is of another expert.
            FloatingPointError: If its weights are not finite, or don't move in an epoch.
        """
        if number not in self.trained:
            self.trained[number] = self._found(number)
        return self.trained[number]

    def state(self) -> dict[str, Trajectory]:
        """Returns the experts trained so far; those in a folder stay there."""
        if self.store is not None:
            return {}
        return {str(number): trajectory for number, trajectory in self.trained.items()}

    @cached_property
    def images(self) -> LabelledImages:
        """The real images that all experts see."""
        count = self.experts.images or self.real.size
        return self.real.mixed(count, derive(self.seed, "expert images"))

    @cached_property
    def store(self) -> ExpertStore | None:
        """Where the experts are kept; None: nowhere."""
        experts = self.experts
        if experts.folder is None:
            return None
        recipe = {f"experts.recipe.{name}": v for name, v in asdict(experts.recipe).items()}
        facts = {"experts.architecture": experts.architecture, **recipe, "experts.seed": self.seed}
        facts["the images of experts"] = described(self.images)
        return ExpertStore(Path(experts.folder), {name: str(v) for name, v in facts.items()})

    def _found(self, number: int) -> Trajectory:
        store = self.store
        if store is None:
            return self._train(number)
        if not store.path(number).exists():
            store.save(number, self._train(number))
            logger.info("expert %d is kept in %s", number, store.path(number))
        points = store.load(number, weights_of(self.network), self.experts.epochs)
        _check_moving(f"expert {number} in {store.path(number)}", points, "delete the file")
        return points

    def _fresh(self, number: int) -> Network:
        shape, classes = self.real.image_shape, self.real.num_classes
        rng = derive(self.seed, "expert", number)
        return fresh(self.experts.architecture, shape, classes, rng).to(self.real.device)

    def _train(self, number: int) -> Trajectory:
        network = self._fresh(number)
        points = [weights_of(network)]
        for epoch in range(self.experts.epochs):
            rng = derive(self.seed, "expert training", number, epoch)
            train(network, self.images, self.experts.recipe, rng)
            points.append(weights_of(network))
        _check_moving(f"expert {number}", points, "change experts.recipe.learning_rate")
        return points


def _check_moving(expert: str, points: Trajectory, remedy: str) -> None:
    for before, after in pairwise(points):
        moved = sum((after[name] - w).square().sum().item() for name, w in before.items())
        if not 0 < moved < torch.inf:
            raise FloatingPointError(
                f"{expert} must move a finite way in every epoch, got a squared distance of "
                f"{moved}; {remedy}"
            )
