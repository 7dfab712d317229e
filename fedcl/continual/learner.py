"""A continual learner: a network, a stream, and what the method keeps between experiences."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor, nn

from distill.condenser import Given
from distill.coresets import Random
from distill.given import stand_ins
from distill.images import LabelledImages, Normalisation, stored_bytes
from distill.networks import Architecture, Network, fresh
from distill.pullback import weights_of
from distill.rng import derive, subseed
from distill.training import Additions, Recipe, score, train
from distill.work import Work
from fedcl.continual.answers import Restricted, among, answers_by_class
from fedcl.continual.base import ContinualMethod, Lesson, Moment, State
from fedcl.continual.keeper import Keeper, Networks
from fedcl.continual.late import avalanche_loop
from fedcl.memory import Memory
from fedcl.streams.base import Experience


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

    @property
    def device(self) -> torch.device:
        """Where networks learn: where the images are."""
        return self.data.images.device


@final
@dataclass(frozen=True)
class Cost:
    """What learning one experience took.

    Attributes:
        train_seconds: Of training, the lesson's own work included.
        distill_seconds: Of filling the memory.
        samples: Images that passed through the network in training, replayed ones, candidates
            for replay and further views included.
    """

    train_seconds: float
    distill_seconds: float
    samples: int


@final
class Learner:
    """Learns experience by experience; it can be written down after any of them."""

    def __init__(self, method: ContinualMethod, setting: Setting) -> None:
        self.method, self.setting = method, setting
        if method.learns != "memory" or setting.tells_tasks:
            _check_plain(setting.recipe, method.learns == "memory")
        method.check_recipe(setting.recipe)
        self.answers = _answers(setting)
        self.network = self._fresh("network")
        self.left: State = {}
        self.keeper = _keeper(method, setting)

    def learn(self, index: int) -> Cost:
        """Trains on experience ``index``, or on all of them where the method does so.

        Raises:
            FloatingPointError: If training leaves a weight that isn't finite.
        """
        self._import_loop()
        clock, keeper, ahead = time.perf_counter(), self.keeper, self.method.ahead
        filled = 0.0 if keeper is None else keeper.seconds
        before = weights_of(self.network)
        if keeper is not None and ahead:
            self._fill(keeper, index, [before])
        lesson = self._lesson(index, self.network)
        samples = self._train(index, self.network, self.setting.recipe, lesson)
        _check_finite(self.network, index)
        if keeper is not None and not ahead:
            given = [before, weights_of(self.network)]
            if keeper.staged:
                keeper.finish(index, given)
            else:
                self._fill(keeper, index, given)
        if lesson.leave is not None:
            self.left = lesson.leave(self.network, self._images(index), self._held)
        distilling = 0.0 if keeper is None else keeper.seconds - filled
        return Cost(time.perf_counter() - clock - distilling, distilling, samples)

    def _import_loop(self) -> None:
        """Imports what trains, if it does so, as that takes seconds that are no training."""
        if self.method.learns != "memory":
            avalanche_loop()

    def _fill(self, keeper: Keeper, index: int, given: Networks) -> None:
        """Fills the memory with experience ``index``."""
        keeper.learn(index, self._images(index), given)
        keeper.finish(index, given)

    def work(self) -> tuple[list[Work], Memory | None]:
        """Returns what learning all will do, undone, and a memory of the size that it leaves.

        A unit of training is an epoch.
        """
        self._import_loop()
        setting, work, before = self.setting, list[Work](), self
        for index in range(1 if self.method.learns == "stream" else len(setting.experiences)):
            after = copy.copy(before)
            if before.keeper is not None:
                real, memory = self._images(index), before.keeper.memory
                replayed = before.keeper.replayed
                given = stand_ins(weights_of(before.network), self.method.gives)
                method = Given(replayed.method, given)
                work += memory.learning(real, method, setting.seed)
                filled = memory.learn(real, Random(), setting.seed)
                after.keeper = Keeper(replayed, filled, setting.seed, setting.device)
            trained = after if self.method.ahead else before
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
            index=index,
            images=sum(len(part.train) for part in self._learnt(index)),
            classes=groups[index],
            earlier=list(dict.fromkeys(chain.from_iterable(groups[:index]))),
            answers=self.answers,
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
            train(network, self._held, recipe, derive(seed, "training"), self._told(network))
            return recipe.epochs * len(self._held)
        loop = avalanche_loop()
        keeper = self.keeper
        watch = None
        if keeper is not None and keeper.staged:
            before, now = weights_of(network), network.state_dict()  # which training changes
            watch = keeper.watch(index, [before, now])
        course = loop.Course(lesson, recipe, self._held, watch, self.answers, index)
        samples: int = loop.follow(network, self._images(index), course, seed)
        return samples

    def _told(self, network: Network) -> Additions:
        """Returns what keeps training on the memory alone to the classes of an image's task."""
        answers = self.answers
        if answers is None:
            return Additions()

        def forward(images: Tensor, wanted: Tensor) -> tuple[Tensor, float]:
            return among(network(images), answers[wanted]), 0.0

        return Additions(forward=forward)

    @property
    def memory(self) -> Memory | None:
        """What is held now, if anything."""
        return None if self.keeper is None else self.keeper.memory

    @property
    def _held(self) -> LabelledImages:
        """What the memory holds, if there is one."""
        none = torch.zeros(0).long()
        return self.setting.data.rows(none) if self.keeper is None else self.keeper.held

    def _images(self, index: int) -> LabelledImages:
        """Returns what is learnt at experience ``index``."""
        return LabelledImages.union([part.train.images() for part in self._learnt(index)])

    def _learnt(self, index: int) -> Sequence[Experience]:
        experiences = self.setting.experiences
        learnt = {"stream": experiences, "seen": experiences[: index + 1]}
        return learnt.get(self.method.learns, [experiences[index]])

    def _fresh(self, *names: str | int) -> Network:
        setting, data = self.setting, self.setting.data
        rng = derive(setting.seed, *names)
        network = fresh(setting.architecture, data.image_shape, data.num_classes, rng)
        return network.to(setting.device)

    @property
    def classifier(self) -> nn.Module:
        """What answers now."""
        return self.method.classifier(self.network, self._held)

    def stored(self, index: int) -> tuple[int, int]:
        """Returns the images kept once experience ``index`` is learnt, and their bytes at most.

        What is learnt again with later experiences is kept as uint8.
        """
        if self.memory is not None:
            return len(self.memory), self.memory.peak
        if self.method.learns != "seen":
            return 0, 0
        images = sum(len(part.train) for part in self._learnt(index))
        return images, stored_bytes(images, self.setting.data.image_shape, "uint8")

    @property
    def kept_bytes(self) -> int:
        """Bytes that the method keeps beside network and memory from an experience to the next."""
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
        self.left = {name: kept.to(self.setting.device) for name, kept in state["left"].items()}
        if self.keeper is not None:
            self.keeper.memory = self.keeper.memory.restored(state["memory"])


def _answers(setting: Setting) -> Tensor | None:
    """Returns for each class those that its images may be told to be; None: all."""
    if not setting.tells_tasks:
        return None
    groups = [experience.classes for experience in setting.experiences]
    return answers_by_class(groups, setting.data.num_classes).to(setting.device)


def _keeper(method: ContinualMethod, setting: Setting) -> Keeper | None:
    """Returns who fills the memory, if there is one.

    Raises:
        ValueError: If the budget is too small for the classes or a set of them, images wait while
            they are seen again, or classes come back that the memory can't add to.
    """
    if method.replayed is None:
        return None
    budget, data, epochs = method.replayed.budget, setting.data, setting.recipe.epochs
    if setting.tells_tasks:
        budget.check_hard("where images come with their task, since labels are of all classes")
    if not method.replayed.method.makes_pixels:
        _check_once(setting.experiences)
    if method.learns != "memory" and budget.staged is not None and epochs > 1:
        raise ValueError(
            "training.epochs must be 1 where buffer.staged is given, since images wait for the "
            f"memory as they pass, got {epochs}; take stream=online, or buffer.staged=null"
        )
    memory = Memory.empty(budget, data.image_shape, data.num_classes, setting.normalisation)
    memory.check(method.replayed.method, (part.train.images() for part in setting.experiences))
    return Keeper(method.replayed, memory, setting.seed, setting.device)


def _check_once(experiences: Sequence[Experience]) -> None:
    """Refuses classes that come back.

    Raises:
        ValueError: If two experiences have images of one class.
    """
    came = torch.stack([experience.train.counts > 0 for experience in experiences])
    for label, times in enumerate(came.sum(0).tolist()):
        if times > 1:
            raise ValueError(
                "classes must come once with a method whose images are decoded, since a set's "
                f"images share numbers, got class {label} in {times} experiences; take "
                "stream=class_incremental, or a method that makes pixels"
            )


def _check_finite(network: Network, index: int) -> None:
    """Refuses a network that no later step would mend.

    Raises:
        FloatingPointError: If a number of it isn't finite.
    """
    if not all(values.isfinite().all() for values in network.state_dict().values()):
        raise FloatingPointError(
            "training must leave finite weights, got NaN or infinity after experience "
            f"{index}; lower training.learning_rate"
        )


def _check_plain(recipe: Recipe, alone: bool) -> None:
    """Refuses what a lesson's loop doesn't do, nor training among the classes of a task.

    Args:
        recipe: How networks are trained.
        alone: Whether on the memory alone, whose loop may lower its step.

    Raises:
        ValueError: If the recipe asks for it.
    """
    plain = {"loss": (recipe.loss, "cross_entropy"), "cutmix": (recipe.cutmix, 0.0)}
    if not alone:
        plain["decay_after"] = (recipe.decay_after, None)
    for name, (value, wanted) in plain.items():
        if value != wanted:
            rule = "null" if wanted is None else wanted
            where = "where images come with their task" if alone else "where Avalanche trains"
            raise ValueError(f"training.{name} must be {rule} {where}, got {value}")
