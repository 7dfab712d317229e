"""Avalanche's loop, following a lesson: what a batch is, what its loss is, what a step is.

With :mod:`fedcl.continual.avalanche` the only files that import Avalanche 0.6, which takes
seconds; import this one late. What it works around, and where:

- strategies keep what they know in themselves and can't be written down with current torch:
  :func:`follow` makes a new one for each experience, and lessons leave what the next one needs;
- the loaders draw from torch's global generator: :func:`follow` seeds it.
"""

import warnings
from dataclasses import dataclass
from typing import Any, final

import torch
from avalanche.benchmarks import benchmark_from_datasets
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.templates import SupervisedTemplate
from torch import Tensor, nn

from distill.images import LabelledImages
from distill.networks import Network
from distill.precision import products
from distill.rng import derive, global_stream, subseed
from distill.training import Recipe, augmented
from fedcl.continual.avalanche import replay_dataset
from fedcl.continual.base import Batch, Lesson
from fedcl.continual.keeper import Watch


@final
@dataclass(frozen=True)
class Course:
    """What Avalanche's loop is to do with one experience.

    Attributes:
        lesson: How it is learnt.
        recipe: Epochs, batch, step sizes, augmentation, precision.
        held: Normalised images of the memory; none: empty.
        watch: Is shown every batch of the stream; None: nobody is (:class:`Keeper`).
        answers: For each class, the classes that its images may be told to be, bool
            ``(num_classes, num_classes)``; None: all.
        index: Which experience it is.
    """

    lesson: Lesson
    recipe: Recipe
    held: LabelledImages
    watch: Watch | None
    answers: Tensor | None
    index: int


@final
class LessonStrategy(SupervisedTemplate):  # type: ignore[misc]
    """Avalanche's loop where a lesson says what a batch is and what its loss is.

    Attributes:
        samples: Images that have passed through the network, replayed ones, candidates for
            replay and further views included.
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
            device=course.held.images.device,
        )
        self.course, self.held, self.samples = course, course.held, 0
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
        self.course.recipe.limit(self.model)
        super().optimizer_step()
        if lesson.stepped is not None:
            lesson.stepped(self.model)
        if self.course.watch is not None:
            changed = self.course.watch(self._stream)
            self.held = self.held if changed is None else changed

    def count(self, _network: nn.Module, given: tuple[Tensor]) -> None:
        """Counts the images that a network is given, as a hook of it."""
        self.samples += len(given[0])

    @property
    def _stream(self) -> LabelledImages:
        """The batch of the stream, as it came."""
        return LabelledImages(self.mb_x, self.mb_y, self.held.num_classes)

    def _extended(self, images: Tensor, labels: Tensor) -> Batch:
        """Returns a batch of the stream with images of the memory, all augmented alike."""
        course, fresh, rows, targets = self.course, len(labels), torch.zeros(0).long(), None
        if len(self.held):
            rows = self._chosen(fresh)
            replayed = self.held.rows(rows)
            if replayed.targets is not None:
                targets = torch.cat([self._stream.distributions, replayed.targets])
            images = torch.cat([images, replayed.images])
            labels = torch.cat([labels, replayed.labels])
        answers = None if course.answers is None else course.answers[labels]
        seen = augmented(images, course.recipe.augmentation, self.augmentation_rng)
        return Batch(seen, images, labels, fresh, rows, answers, targets)

    def _chosen(self, fresh: int) -> Tensor:
        if self.course.lesson.choose is not None:
            return self.course.lesson.choose(self.model, self._stream, self.held)
        return torch.randint(len(self.held), (fresh,), generator=self.replay_rng)


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
    benchmark = benchmark_from_datasets(train=[replay_dataset(data.to("cpu"))])
    counting = network.register_forward_pre_hook(strategy.count)
    with global_stream(subseed(seed, "loader")):
        strategy.train(list(benchmark.train_stream))
    counting.remove()
    return strategy.samples
