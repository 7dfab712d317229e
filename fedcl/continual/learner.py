"""A continual learner: a network, a stream, and what the method keeps between experiences."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any, final

from distill.condenser import Condenser
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, Network, fresh
from distill.rng import derive, subseed
from distill.training import Recipe, score, train
from distill.work import Work
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


@final
class Learner:
    """Learns experience by experience; it can be written down after any of them."""

    def __init__(self, method: ContinualMethod, setting: Setting) -> None:
        self.method, self.setting, data = method, setting, setting.train
        if method.learns != "memory":
            _check_plain(setting.recipe)
        self.network = self._fresh("network")
        self.memory: Memory | None = None
        if method.replayed is not None:
            self.memory = Memory.empty(
                method.replayed.budget,
                data.image_shape,
                data.num_classes,
                setting.normalisation,
            )
        self.tests = [
            setting.test.rows(experience_rows(setting.test.labels, group))
            for group in setting.classes
        ]

    def learn(self, index: int) -> None:
        """Trains on experience ``index``, or on all of them where the method does so."""
        keeper = None if self.method.replayed is None else self.method.replayed.method
        self.memory = self._learnt(index, self.network, self.setting.recipe, keeper)

    def work(self) -> tuple[list[Work], Memory | None]:
        """Returns what learning all will do, undone, and a memory of the size that it leaves.

        A unit of training is an epoch.
        """
        setting, replayed, work = self.setting, self.method.replayed, list[Work]()
        sketch = copy.copy(self)
        for index in range(1 if self.method.learns == "stream" else len(setting.classes)):
            work.append(sketch._training(index))
            if sketch.memory is not None and replayed is not None:
                real, memory = self._images(index), sketch.memory
                work += memory.learning(real, replayed.method, setting.seed)
                sketch = copy.copy(sketch)
                sketch.memory = memory.learn(real, Random(), setting.seed)
        return work, sketch.memory

    def _training(self, index: int) -> Work:
        recipe, keeper = self.setting.recipe, None if self.memory is None else Random()

        def do(epochs: int) -> int:
            short = replace(recipe, epochs=min(epochs, recipe.epochs))
            self._learnt(index, copy.deepcopy(self.network), short, keeper)
            return recipe.epochs

        return Work("training", recipe.epochs, do)

    def _learnt(
        self, index: int, network: Network, recipe: Recipe, keeper: Condenser | None
    ) -> Memory | None:
        """Trains a network on experience ``index`` and returns the memory after it."""
        setting, seed = self.setting, subseed(self.setting.seed, "experience", index)
        memory, from_scratch = self.memory, self.method.learns == "memory"
        if memory is not None and keeper is not None and from_scratch:
            memory = memory.learn(self._images(index), keeper, subseed(seed, "memory"))
            network.load_state_dict(self._fresh("network", index).state_dict())
            train(network, memory.data(), recipe, derive(seed, "training"))
            return memory
        avalanche, plugins = _avalanche(), []
        benchmark = avalanche.class_incremental(setting.train, setting.test, setting.classes)
        stream = list(benchmark.train_stream)
        if memory is not None and keeper is not None:
            policy = avalanche.CondensedBuffer(memory, keeper, seed)
            plugins.append(avalanche.ConstantRatioReplay(policy, seed))
        learnt = {"stream": stream, "seen": stream[: index + 1]}
        experiences = learnt.get(self.method.learns, [stream[index]])
        avalanche.train_experiences(network, experiences, recipe, plugins, seed)
        return policy.memory if plugins else memory

    def _images(self, index: int) -> LabelledImages:
        data = self.setting.train
        return data.rows(experience_rows(data.labels, self.setting.classes[index]))

    def _fresh(self, *names: str | int) -> Network:
        setting, data = self.setting, self.setting.train
        rng = derive(setting.seed, *names)
        return fresh(setting.architecture, data.image_shape, data.num_classes, rng)

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


def _check_plain(recipe: Recipe) -> None:
    """Refuses what Avalanche's loop doesn't do.

    Raises:
        ValueError: If the recipe asks for it.
    """
    plain = {
        "decay_after": (recipe.decay_after, None),
        "schedule": (recipe.schedule, None),
        "loss": (recipe.loss, "cross_entropy"),
        "cutmix": (recipe.cutmix, 0.0),
        "precision": (recipe.precision, "float32"),
    }
    for name, (value, wanted) in plain.items():
        if value != wanted:
            rule = "null" if wanted is None else wanted
            raise ValueError(f"training.{name} must be {rule} where Avalanche trains, got {value}")
