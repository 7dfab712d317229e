"""Avalanche's side: benchmark, storage policy, replay in a constant ratio, one strategy.

The only file that imports Avalanche 0.6, which takes seconds; import this one late. What it
works around, and where:

- ``ExemplarsBuffer.update`` is marked deprecated by a decorator that changes the process's
  warning filters at every call: :class:`CondensedBuffer` overrides it;
- ``ReplayDataLoader`` cycles through a memory in batches, the last one short:
  :class:`ConstantRatioReplay` draws as many memory images as the batch has, every time;
- the loaders draw from torch's global generator: :func:`train_experiences` seeds it.
"""

import warnings
from collections.abc import Sequence
from typing import Any, final

import torch
from avalanche.benchmarks import nc_benchmark
from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.benchmarks.utils.flat_data import ConstantSequence
from avalanche.training.plugins import EvaluationPlugin, SupervisedPlugin
from avalanche.training.storage_policy import ExemplarsBuffer
from avalanche.training.supervised import JointTraining
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.rng import derive, global_stream, subseed
from distill.training import Recipe, augmented
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
class BatchAugmentation(SupervisedPlugin):  # type: ignore[misc]
    """Transforms stream and memory images of a batch alike, after replay has extended it."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        super().__init__()
        self.recipe, self.rng = recipe, derive(seed, "augmentation")

    def before_forward(self, strategy: Any, **_: Any) -> None:
        """Transforms the images of the batch."""
        batch = strategy.mbatch
        batch[0] = augmented(batch[0], self.recipe.augmentation, self.rng)


def class_incremental(
    train: LabelledImages, test: LabelledImages, classes: Sequence[Sequence[int]]
) -> Any:
    """Returns the benchmark whose experience i holds ``classes[i]``, normalised images."""
    return nc_benchmark(
        Tensors(train),
        Tensors(test),
        n_experiences=len(classes),
        task_labels=False,
        shuffle=False,
        fixed_class_order=[label for group in classes for label in group],
        per_exp_classes={index: len(group) for index, group in enumerate(classes)},
    )


def images_of(dataset: Any, num_classes: int) -> LabelledImages:
    """Returns the images of an Avalanche data set under its evaluation transforms."""
    rows = dataset.eval()
    images = torch.stack([rows[index][0] for index in range(len(rows))])
    labels = torch.tensor([int(label) for label in rows.targets])
    return LabelledImages(images, labels, num_classes)


def replay_dataset(data: LabelledImages) -> Any:
    """Returns images as the data set that Avalanche's replay loaders read."""
    targets = DataAttribute(data.labels.tolist(), "targets")
    tasks = TaskLabels(ConstantSequence(0, len(data)))
    return TaskAwareSupervisedClassificationDataset(
        [Tensors(data)], data_attributes=[targets, tasks]
    )


def train_experiences(
    network: nn.Module,
    experiences: Sequence[Any],
    recipe: Recipe,
    plugins: Sequence[SupervisedPlugin],
    seed: int,
) -> None:
    """Trains ``network`` in place on Avalanche's experiences, several of them as if one.

    A new strategy is made each time, so that nothing but the network and the plugins' memory
    goes from one call to the next, and a run resumes from those alone.

    Args:
        network: What is trained.
        experiences: One or more.
        recipe: Epochs, batch, step size; ``decay_after`` must be None.
        plugins: Replay, if any.
        seed: Names the streams of this call.
    """
    template = SupervisedTemplate if len(experiences) == 1 else JointTraining
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No loggers specified")
        evaluator = EvaluationPlugin(loggers=[])
    strategy = template(
        model=network,
        optimizer=recipe.build_optimiser(network),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=recipe.batch,
        train_epochs=recipe.epochs,
        plugins=[*plugins, BatchAugmentation(recipe, seed)],
        evaluator=evaluator,
    )
    with global_stream(subseed(seed, "loader")):
        strategy.train(list(experiences))
