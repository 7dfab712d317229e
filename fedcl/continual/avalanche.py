"""Avalanche's side: storage policy, replay in a constant ratio, the loop that lessons follow.

The only file that imports Avalanche 0.6, which takes seconds; import this one late. What it
works around, and where:

- ``ExemplarsBuffer.update`` is marked deprecated by a decorator that changes the process's
  warning filters at every call: :class:`CondensedBuffer` overrides it;
- ``ReplayDataLoader`` cycles through a memory in batches, the last one short:
  :class:`ConstantRatioReplay` draws as many memory images as the batch has, every time;
- the loaders draw from torch's global generator: :func:`follow` seeds it.
"""

import warnings
from dataclasses import dataclass
from typing import Any, final

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.benchmarks.utils.flat_data import ConstantSequence
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor
from torch.utils.data import TensorDataset

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from distill.precision import products
from distill.rng import derive, global_stream, subseed
from distill.training import Recipe, augmented
from fedcl.continual.base import Batch, Lesson
from fedcl.memory import Memory


@final
class Tensors(TensorDataset):
    """Images and labels with the ``targets`` that Avalanche asks for."""

    def __init__(self, data: LabelledImages) -> None:
        super().__init__(data.images, data.labels)
        self.targets = data.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:  # type: ignore[override]
        return self.tensors[0][index], self.targets[index]


@final
class CondensedBuffer(ExemplarsBuffer):  # type: ignore[misc]
    """A storage policy that keeps small sets; it works in any strategy that takes one.

    Attributes:
        memory: What is kept, a value that every update replaces.
        method: Makes the small sets.
        seed: Names the random streams; distilling never shifts those of training.
    """

    def __init__(self, memory: Memory, method: Condenser, seed: int) -> None:
        super().__init__(memory.budget.capacity(memory.image_shape, memory.num_classes))
        self.method, self.seed = method, seed
        self.hold(memory)

    def hold(self, memory: Memory) -> None:
        """Replaces what is kept."""
        self.memory = memory
        self.buffer = replay_dataset(memory.data())

    def update(self, strategy: Any, **_: Any) -> None:
        """Learns the experience that ``strategy`` has just trained on."""
        self.post_adapt(strategy, strategy.experience)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Learns an experience."""
        del agent
        seed = subseed(self.seed, "memory", int(exp.current_experience))
        real = images_of(exp.dataset, self.memory.num_classes)
        self.hold(self.memory.learn(real, self.method, seed))

    def resize(self, strategy: Any, new_size: int) -> None:
        """Refuses: the budget is fixed when the memory is made.

        Raises:
            ValueError: Always, unless the size is the one it has.
        """
        del strategy
        if new_size != self.max_size:
            raise ValueError(f"new_size must be {self.max_size}, the budget, got {new_size}")


@final
class ConstantRatioReplay(SupervisedPlugin):  # type: ignore[misc]
    """Adds to every batch as many memory images, drawn with replacement, as it has."""

    def __init__(self, policy: CondensedBuffer, seed: int) -> None:
        super().__init__()
        self.policy, self.seed = policy, seed
        self.held = policy.memory.data()
        self.rng = derive(seed, "replay")

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        """Takes what the memory holds now."""
        self.held = self.policy.memory.data()
        self.rng = derive(self.seed, "replay", int(strategy.experience.current_experience))

    def before_forward(self, strategy: Any, **_: Any) -> None:
        """Extends images, labels and task labels of the batch."""
        if len(self.held) == 0:
            return
        batch = strategy.mbatch
        rows = torch.randint(len(self.held), (len(batch[0]),), generator=self.rng)
        batch[0] = torch.cat([batch[0], self.held.images[rows]])
        batch[1] = torch.cat([batch[1], self.held.labels[rows]])
        batch[2] = torch.cat([batch[2], torch.zeros_like(rows)])

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Lets the memory learn the experience."""
        self.policy.update(strategy)


@final
@dataclass(frozen=True)
class Course:
    """What Avalanche's loop is to do with one experience.

    Attributes:
        lesson: How it is learnt.
        recipe: Epochs, batch, step sizes, augmentation, precision.
        held: Normalised images of the memory; none: empty.
        answers: For each class, the classes that its images may be told to be, bool
            ``(num_classes, num_classes)``; None: all.
        index: Which experience it is.
    """

    lesson: Lesson
    recipe: Recipe
    held: LabelledImages
    answers: Tensor | None
    index: int


@final
class LessonStrategy(SupervisedTemplate):  # type: ignore[misc]
    """Avalanche's loop where a lesson says what a batch is and what its loss is.

    Attributes:
        samples: Images that have passed through training, those of the memory included.
    """

    def __init__(self, *, network: Network, course: Course, seed: int) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "No loggers specified")
            evaluator = EvaluationPlugin(loggers=[])
        super().__init__(
            model=network,
            optimizer=course.recipe.build_optimiser(network),
            train_mb_size=course.recipe.batch,
            train_epochs=course.recipe.epochs,
            evaluator=evaluator,
        )
        self.course, self.samples = course, 0
        self.replay_rng = derive(seed, "replay", course.index)
        self.augmentation_rng = derive(seed, "augmentation")
        self.batch: Batch | None = None

    def _before_training_epoch(self, **words: Any) -> None:
        super()._before_training_epoch(**words)
        self.course.recipe.pace(self.optimizer, self.clock.train_exp_epochs)

    def forward(self) -> Tensor:
        """Returns the lesson's loss on the batch."""
        recipe = self.course.recipe
        self.batch = self._extended(self.mb_x, self.mb_y)
        self.samples += len(self.batch.labels)
        with products(recipe.precision, self.mb_x.device):
            return self.course.lesson.loss(self.model, self.batch)

    def criterion(self) -> Tensor:
        """Returns the same."""
        loss: Tensor = self.mb_output
        return loss

    def optimizer_step(self) -> None:
        """Takes a step along what the lesson makes of the gradients."""
        lesson = self.course.lesson
        if lesson.adjust is not None and self.batch is not None:
            lesson.adjust(self.model, self.batch)
        super().optimizer_step()
        if lesson.stepped is not None:
            lesson.stepped(self.model)

    def _extended(self, images: Tensor, labels: Tensor) -> Batch:
        """Returns a batch of the stream with images of the memory, all augmented alike."""
        course, fresh, rows = self.course, len(labels), torch.zeros(0).long()
        if len(course.held):
            rows = self._chosen(images, labels)
            images = torch.cat([images, course.held.images[rows]])
            labels = torch.cat([labels, course.held.labels[rows]])
        answers = None if course.answers is None else course.answers[labels]
        seen = augmented(images, course.recipe.augmentation, self.augmentation_rng)
        return Batch(seen, images, labels, fresh, rows, answers)

    def _chosen(self, images: Tensor, labels: Tensor) -> Tensor:
        if self.course.lesson.choose is not None:
            return self.course.lesson.choose(self.model, images, labels)
        return torch.randint(len(self.course.held), (len(labels),), generator=self.replay_rng)


def images_of(dataset: Any, num_classes: int) -> LabelledImages:
    """Returns the images of an Avalanche data set under its evaluation transforms."""
    rows = dataset.eval()
    images = torch.stack([rows[index][0] for index in range(len(rows))])
    labels = torch.tensor([int(label) for label in rows.targets])
    return LabelledImages(images, labels, num_classes)


def replay_dataset(data: LabelledImages) -> Any:
    """Returns images as the data set that Avalanche's loaders read."""
    targets = DataAttribute(data.labels.tolist(), "targets")
    tasks = TaskLabels(ConstantSequence(0, len(data)))
    return TaskAwareSupervisedClassificationDataset(
        [Tensors(data)], data_attributes=[targets, tasks]
    )


def follow(network: Network, data: LabelledImages, course: Course, seed: int) -> int:
    """Trains ``network`` in place on one experience; returns how many images passed through it.

    A new strategy is made each time, so that nothing but the network and what the lesson leaves
    goes from one experience to the next, and a run resumes from those alone.

    Args:
        network: What is trained.
        data: Normalised images of the experience.
        course: How.
        seed: Names the streams of this call.
    """
    strategy = LessonStrategy(network=network, course=course, seed=seed)
    benchmark = benchmark_from_datasets(train=[replay_dataset(data)])
    with global_stream(subseed(seed, "loader")):
        strategy.train(list(benchmark.train_stream))
    return strategy.samples
