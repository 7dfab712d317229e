"""A continual learner: a network, a stream, and what the method keeps between experiences."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, final

from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, fresh
from distill.rng import derive, subseed
from distill.training import Recipe, score
from fedcl.continual.base import ContinualMethod
from fedcl.memory import Memory
from fedcl.streams import experience_rows


def _avalanche() -> ModuleType:
    """Imports Avalanche late, as it takes seconds, and without its complaints about solvers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("fedcl.continual.avalanche")


@final
@dataclass(frozen=True)
class Setting:
    """What a learner is given.

    Attributes:
        train: Normalised images of all experiences.
        test: Normalised images, scored by experience.
        classes: Classes of each experience.
        normalisation: Map between stored pixels and what networks see.
        architecture: What is trained.
        recipe: How it is trained on one experience.
        seed: Names every random stream.
    """

    train: LabelledImages
    test: LabelledImages
    classes: Sequence[Sequence[int]]
    normalisation: Normalisation
    architecture: Architecture
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        if self.recipe.decay_after is not None:
            raise ValueError(
                "training.decay_after must be null in a continual run, "
                f"got {self.recipe.decay_after}"
            )


@final
class Learner:
    """Learns experience by experience; it can be written down after any of them."""

    def __init__(self, method: ContinualMethod, setting: Setting) -> None:
        self.method, self.setting = method, setting
        train, rng = setting.train, derive(setting.seed, "network")
        self.network = fresh(setting.architecture, train.image_shape, train.num_classes, rng)
        self.memory: Memory | None = None
        if method.replayed is not None:
            self.memory = Memory.empty(
                method.replayed.budget,
                train.image_shape,
                train.num_classes,
                setting.normalisation,
            )
        self.tests = [
            setting.test.rows(experience_rows(setting.test.labels, group))
            for group in setting.classes
        ]

    def learn(self, index: int) -> None:
        """Trains on experience ``index``, or on all of them where the method does so."""
        avalanche = _avalanche()
        setting, seed = self.setting, subseed(self.setting.seed, "experience", index)
        benchmark = avalanche.class_incremental(setting.train, setting.test, setting.classes)
        stream = list(benchmark.train_stream)
        plugins = []
        if self.memory is not None and self.method.replayed is not None:
            policy = avalanche.CondensedBuffer(self.memory, self.method.replayed.method, seed)
            plugins.append(avalanche.ConstantRatioReplay(policy, seed))
        experiences = stream if self.method.at_once else [stream[index]]
        avalanche.train_experiences(self.network, experiences, setting.recipe, plugins, seed)
        if plugins:
            self.memory = policy.memory

    def accuracies(self) -> list[float]:
        """Returns the accuracy on each experience's test images, seen or not."""
        return [score(self.network, test)[0] for test in self.tests]

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` needs."""
        memory = None if self.memory is None else self.memory.state()
        return {"network": self.network.state_dict(), "memory": memory}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where :meth:`state` was taken."""
        self.network.load_state_dict(state["network"])
        if self.memory is not None:
            self.memory = self.memory.restored(state["memory"])
