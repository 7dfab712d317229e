"""For scripts of Avalanche's: a storage policy that distils, and replay in a constant ratio.

It imports Avalanche 0.6, which takes seconds; import this one late. What it works around:

- ``ExemplarsBuffer.update`` is marked deprecated by a decorator that changes the process's
  warning filters at every call: :class:`CondensedBuffer` overrides it;
- ``ReplayDataLoader`` cycles through a memory in batches, the last one short:
  :class:`ConstantRatioReplay` draws as many memory images as the batch has, every time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, final

import torch
from avalanche.benchmarks.utils import DataAttribute, TaskAwareSupervisedClassificationDataset
from avalanche.benchmarks.utils.data_attribute import TaskLabels
from avalanche.benchmarks.utils.flat_data import ConstantSequence
from avalanche.training.plugins import SupervisedPlugin
from avalanche.training.storage_policy import BalancedExemplarsBuffer
from torch import Tensor
from torch.utils.data import TensorDataset

from distill.condenser import Condenser, pixels_alone
from distill.images import LabelledImages, Normalisation
from distill.rng import derive, subseed
from fedcl.memory import Budget, Memory
from fedcl.stores.uint8 import Uint8


@final
class Tensors(TensorDataset):
    """Images and labels with the ``targets`` that Avalanche asks for."""

    def __init__(self, data: LabelledImages) -> None:
        super().__init__(data.images, data.labels)
        self.targets = data.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:  # type: ignore[override]
        return self.tensors[0][index], self.targets[index]


@final
@dataclass(frozen=True)
class ClassGroup:
    """What is kept of one class, where Avalanche looks for it."""

    buffer: Any


@final
class CondensedBuffer(BalancedExemplarsBuffer):  # type: ignore[misc]
    """A storage policy that keeps small sets; it works in any strategy that takes one.

    Attributes:
        memory: What is kept, a value that every update replaces.
        method: Makes the small sets.
        seed: Names the random streams; distilling never shifts those of training.
        tasks: Task label of each class; 0 where it has none.
        buffer_groups: What is kept, by class, as MIR and SCR ask for it.
    """

    def __init__(
        self,
        memory: Memory,
        method: Condenser,
        seed: int,
        tasks: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(memory.budget.capacity(memory.image_shape, memory.num_classes))
        self.method, self.seed, self.tasks = method, seed, tasks or {}
        self.hold(memory)

    @classmethod
    def of(  # noqa: PLR0913  a script's one line
        cls,
        benchmark: Any,
        method: Condenser,
        images: int,
        normalisation: Normalisation | None = None,
        seed: int = 0,
        staged: int | None = None,
    ) -> Self:
        """Returns an empty policy for a benchmark, as a script of Avalanche's asks for one.

        Images are kept as uint8, all of them divided among the classes seen, as Avalanche's
        balanced policies do. They come out as the evaluation transforms made them, and no other
        transform is applied to them.

        Args:
            benchmark: Its training stream holds images ``(C, H, W)`` with task labels.
            method: Makes the small sets.
            images: Images in all, the strategy's ``mem_size``.
            normalisation: The map that the transforms end with; None: images stay in [0, 1].
            seed: Names the random streams.
            staged: For online streams: images that wait, beside the others, until the method
                makes them small together; None: it does so after every experience.

        Raises:
            ValueError: If the images don't suit the normalisation, or the classes the budget,
                or a class has several task labels.
        """
        pixels_alone(method)
        tasks = task_of_classes([experience.dataset for experience in benchmark.train_stream])
        first = images_of(benchmark.train_stream[0].dataset, max(tasks) + 1)
        channels = first.image_shape[0]
        normalisation = normalisation or Normalisation([0.0] * channels, [1.0] * channels)
        _check_range(first.images, normalisation)
        budget = Budget(images, None, "adaptive", Uint8(), staged=staged)
        memory = Memory.empty(budget, first.image_shape, first.num_classes, normalisation)
        return cls(memory, method, seed, tasks)

    def hold(self, memory: Memory) -> None:
        """Replaces what is kept."""
        self.memory, data = memory, memory.data()
        self.buffer_groups = {
            label: ClassGroup(
                replay_dataset(data.rows(data.labels == label), self.tasks.get(label, 0))
            )
            for label in sorted(memory.kept)
        }

    def update(self, strategy: Any, **_: Any) -> None:
        """Learns the experience that ``strategy`` has just trained on."""
        self.post_adapt(strategy, strategy.experience)

    def post_adapt(self, agent: Any, exp: Any) -> None:
        """Learns an experience, where the agent computes, a strategy say; on the CPU for None.

        Where the budget has a stage, its images join those that wait, until so many do; those
        that still wait when the stream ends are not learnt.
        """
        seed = subseed(self.seed, "memory", int(exp.current_experience))
        real = images_of(exp.dataset, self.memory.num_classes)
        real = real.to(getattr(agent, "device", "cpu"))
        staged = self.memory.budget.staged is not None
        learnt = self.memory.streamed if staged else self.memory.learn
        self.hold(learnt(real, self.method, seed))

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
        self._take()
        self.rng = derive(seed, "replay")

    def _take(self) -> None:
        self.held, tasks = self.policy.memory.data(), self.policy.tasks
        self.tasks = torch.tensor([tasks.get(c, 0) for c in self.held.labels.tolist()]).long()

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        """Takes what the memory holds now."""
        self._take()
        self.rng = derive(self.seed, "replay", int(strategy.experience.current_experience))

    def before_forward(self, strategy: Any, **_: Any) -> None:
        """Extends images, labels and task labels of the batch."""
        if len(self.held) == 0:
            return
        batch = strategy.mbatch
        rows = torch.randint(len(self.held), (len(batch[0]),), generator=self.rng)
        for place, kept in enumerate((self.held.images, self.held.labels, self.tasks)):
            batch[place] = torch.cat([batch[place], kept[rows].to(batch[place].device)])

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Lets the memory learn the experience."""
        self.policy.update(strategy)


def images_of(dataset: Any, num_classes: int) -> LabelledImages:
    """Returns the images of an Avalanche data set under its evaluation transforms."""
    rows = dataset.eval()
    images = torch.stack([rows[index][0] for index in range(len(rows))]).float()
    labels = torch.tensor([int(label) for label in rows.targets])
    return LabelledImages(images, labels, num_classes)


def task_of_classes(datasets: Iterable[Any]) -> dict[int, int]:
    """Returns the task label of each class of some Avalanche data sets.

    Raises:
        ValueError: If they have no task labels, or a class has several.
    """
    tasks = dict[int, int]()
    for dataset in datasets:
        try:
            pairs = set(zip(dataset.targets, dataset.targets_task_labels, strict=True))
        except AttributeError as error:
            raise ValueError("experiences must have task labels; take nc_benchmark") from error
        for label, task in pairs:
            if tasks.setdefault(int(label), int(task)) != task:
                raise ValueError(
                    f"class {label} must have one task label, since memories are kept by class, "
                    f"got {tasks[label]} and {task}; take task_labels=False"
                )
    return tasks


def _check_range(images: Tensor, normalisation: Normalisation) -> None:
    if not images.allclose(normalisation.clip(images), atol=1e-3):
        low, high = images.min().item(), images.max().item()
        raise ValueError(
            f"images must be in [0, 1] before normalisation, got {low:.3g} to {high:.3g} after "
            "it; give the transforms' own, normalisation=Normalisation(mean, std)"
        )


def replay_dataset(data: LabelledImages, task: int = 0) -> Any:
    """Returns images as the data set that Avalanche's loaders read."""
    targets = DataAttribute(data.labels.tolist(), "targets")
    tasks = TaskLabels(ConstantSequence(task, len(data)))
    return TaskAwareSupervisedClassificationDataset(
        [Tensors(data)], data_attributes=[targets, tasks]
    )
