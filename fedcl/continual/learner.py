"""A continual learner: a network, a stream, and what the method keeps between experiences."""

import copy
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Any, final

import torch
from torch import Tensor, nn

from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, Network, fresh
from distill.rng import derive, subseed
from distill.training import Recipe, score, train
from distill.work import Work
from fedcl.continual.answers import Restricted, answers_by_class
from fedcl.continual.base import ContinualMethod, Lesson, Moment, State
from fedcl.memory import Memory
from fedcl.streams.base import Experience


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
        experiences: What arrives, in order.
        tells_tasks: Whether an image comes with its task, whose classes alone are answers.
        normalisation: Map between stored pixels and what networks see.
        architecture: What is trained.
        recipe: How it is trained on one experience.
        seed: Names every random stream.
    """

    experiences: Sequence[Experience]
    tells_tasks: bool
    normalisation: Normalisation
    architecture: Architecture
    recipe: Recipe
    seed: int

    @property
    def data(self) -> LabelledImages:
        """All images to learn from, as the first experience sees them."""
        return self.experiences[0].train.part


@final
@dataclass(frozen=True)
class Cost:
    """What learning one experience took.

    Attributes:
        train_seconds: Of training, the lesson's own work included.
        distill_seconds: Of filling the memory.
        samples: Images that passed through training, those of the memory included.
    """

    train_seconds: float
    distill_seconds: float
    samples: int


@final
class Learner:
    """Learns experience by experience; it can be written down after any of them."""

    def __init__(self, method: ContinualMethod, setting: Setting) -> None:
        self.method, self.setting = method, setting
        if method.learns != "memory":
            _check_plain(setting.recipe)
        self.network = self._fresh("network")
        self.left: State = {}
        self.memory: Memory | None = None
        if method.replayed is not None:
            data = setting.data
            self.memory = Memory.empty(
                method.replayed.budget, data.image_shape, data.num_classes, setting.normalisation
            )

    def learn(self, index: int) -> Cost:
        """Trains on experience ``index``, or on all of them where the method does so."""
        clock, distilling, from_memory = time.perf_counter(), 0.0, self.method.learns == "memory"
        if from_memory:
            distilling += self._remember(index)
        lesson = self._lesson(index, self.network)
        samples = self._train(index, self.network, self.setting.recipe, lesson)
        if not from_memory:
            distilling += self._remember(index)
        if lesson.leave is not None:
            self.left = lesson.leave(self.network, self._images(index), self._held)
        return Cost(time.perf_counter() - clock - distilling, distilling, samples)

    def work(self) -> tuple[list[Work], Memory | None]:
        """Returns what learning all will do, undone, and a memory of the size that it leaves.

        A unit of training is an epoch.
        """
        setting, replayed, work = self.setting, self.method.replayed, list[Work]()
        before = self
        for index in range(1 if self.method.learns == "stream" else len(setting.experiences)):
            after = copy.copy(before)
            if before.memory is not None and replayed is not None:
                real, memory = self._images(index), before.memory
                work.append(memory.learning(real, replayed.method, setting.seed))
                after.memory = memory.learn(real, Random(), setting.seed)
            trained = after if self.method.learns == "memory" else before
            work.append(trained._training(index))
            before = after
        return work, before.memory

    def _training(self, index: int) -> Work:
        recipe = self.setting.recipe

        def do(epochs: int) -> int:
            network = copy.deepcopy(self.network)
            short = replace(recipe, epochs=min(epochs, recipe.epochs))
            self._train(index, network, short, self._lesson(index, network))
            return recipe.epochs

        return Work("training", recipe.epochs, do)

    def _lesson(self, index: int, network: Network) -> Lesson:
        setting, groups = self.setting, [e.classes for e in self.setting.experiences]
        moment = Moment(
            network=network,
            held=self._held,
            classes=groups[index],
            earlier=[label for group in groups[:index] for label in group],
            answers=self._answers,
            recipe=setting.recipe,
            left=self.left,
            rng=derive(setting.seed, "lesson", index),
        )
        return self.method.lesson(moment)

    def _train(self, index: int, network: Network, recipe: Recipe, lesson: Lesson) -> int:
        """Trains a network in place and returns how many images passed through it."""
        seed = subseed(self.setting.seed, "experience", index)
        if self.method.learns == "memory":
            network.load_state_dict(self._fresh("network", index).state_dict())
            train(network, self._held, recipe, derive(seed, "training"))
            return recipe.epochs * len(self._held)
        avalanche = _avalanche()
        course = avalanche.Course(lesson, recipe, self._held, self._answers, index)
        samples: int = avalanche.follow(network, self._images(index), course, seed)
        return samples

    def _remember(self, index: int) -> float:
        """Fills the memory with experience ``index``, if there is one; returns the seconds."""
        clock, replayed = time.perf_counter(), self.method.replayed
        if self.memory is not None and replayed is not None:
            seed = subseed(subseed(self.setting.seed, "experience", index), "memory", index)
            self.memory = self.memory.learn(self._images(index), replayed.method, seed)
        return time.perf_counter() - clock

    @property
    def _answers(self) -> Tensor | None:
        """For each class the classes of its task, where images come with theirs."""
        if not self.setting.tells_tasks:
            return None
        groups = [experience.classes for experience in self.setting.experiences]
        return answers_by_class(groups, self.setting.data.num_classes)

    @property
    def _held(self) -> LabelledImages:
        """What the memory holds, if there is one."""
        data = self.setting.data
        return data.rows(torch.zeros(0).long()) if self.memory is None else self.memory.data()

    def _images(self, index: int) -> LabelledImages:
        """Returns what is learnt at experience ``index``."""
        experiences = self.setting.experiences
        learnt = {"stream": experiences, "seen": experiences[: index + 1]}
        parts = learnt.get(self.method.learns, [experiences[index]])
        return LabelledImages.union([part.train.images() for part in parts])

    def _fresh(self, *names: str | int) -> Network:
        setting, data = self.setting, self.setting.data
        rng = derive(setting.seed, *names)
        return fresh(setting.architecture, data.image_shape, data.num_classes, rng)

    @property
    def classifier(self) -> nn.Module:
        """What answers now."""
        return self.method.classifier(self.network, self._held)

    @property
    def kept_bytes(self) -> int:
        """Bytes of what the method keeps beside network and memory, copies of the network say."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.left.values())

    def accuracies(self) -> list[float]:
        """Returns the accuracy on each experience's test images, seen or not."""
        classifier, told = self.classifier, self.setting.tells_tasks
        return [
            score(Restricted(classifier, e.classes) if told else classifier, e.test.images())[0]
            for e in self.setting.experiences
        ]

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` needs."""
        memory = None if self.memory is None else self.memory.state()
        return {
            "network": self.network.state_dict(),
            "memory": memory,
            "left": dict(self.left),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where :meth:`state` was taken."""
        self.network.load_state_dict(state["network"])
        self.left = state["left"]
        if self.memory is not None:
            self.memory = self.memory.restored(state["memory"])


def _check_plain(recipe: Recipe) -> None:
    """Refuses what a lesson's loop doesn't do.

    Raises:
        ValueError: If the recipe asks for it.
    """
    plain = {
        "decay_after": (recipe.decay_after, None),
        "loss": (recipe.loss, "cross_entropy"),
        "cutmix": (recipe.cutmix, 0.0),
    }
    for name, (value, wanted) in plain.items():
        if value != wanted:
            rule = "null" if wanted is None else wanted
            raise ValueError(f"training.{name} must be {rule} where Avalanche trains, got {value}")
