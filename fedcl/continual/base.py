"""What a continual method is, before any framework: what it trains on, how, and what it keeps.

A method hands out a :class:`Lesson` for each experience; Avalanche's loop follows it
(:mod:`fedcl.continual.avalanche_loop`). What a lesson leaves behind is the method's state: tensors
by name, so that a run resumes from them, and their bytes are counted.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from distill.training import Recipe
from fedcl.continual.answers import among
from fedcl.memory import Budget

Source = Literal["experience", "seen", "stream", "memory"]
State = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class Replayed:
    """A memory of the stream.

    Attributes:
        method: Makes the small set of each experience.
        budget: How much may be kept.
        ahead: Whether it learns an experience before the network does, or after.
    """

    method: Condenser
    budget: Budget
    ahead: bool = False


@final
@dataclass(frozen=True)
class Batch:
    """What one step sees: N images of the stream, and after them M of the memory.

    Attributes:
        images: Augmented, ``(N + M, C, H, W)``.
        plain: The same images as they were.
        labels: Their classes, int64, ``(N + M,)``.
        fresh: N, how many are of the stream.
        rows: Which images of the memory the others are, int64, ``(M,)``.
        answers: Classes that an image may be told to be, bool, ``(N + M, num_classes)``;
            None: all.
        targets: What is wanted of each image, distributions ``(N + M, num_classes)``; None: its
            class.
    """

    images: Tensor
    plain: Tensor
    labels: Tensor
    fresh: int
    rows: Tensor
    answers: Tensor | None
    targets: Tensor | None = None

    def cross_entropy(self, logits: Tensor, part: slice = slice(None)) -> Tensor:
        """Returns the mean cross-entropy of logits ``(n, num_classes)`` of a part of the batch.

        Of a distribution, what lies on classes whose logit is minus infinity doesn't count.
        """
        logits = self.allowed(logits, part)
        if self.targets is None:
            return F.cross_entropy(logits, self.labels[part])
        heard = logits.isfinite()
        wanted = self.targets[part] * heard
        wanted = wanted / wanted.sum(1, keepdim=True)
        return -(wanted * logits.log_softmax(1).where(heard, 0.0)).sum(1).mean()

    def allowed(self, logits: Tensor, part: slice = slice(None)) -> Tensor:
        """Returns the logits, those of classes that are no answers at minus infinity."""
        logits = logits.float()
        if self.answers is None:
            return logits
        return among(logits, self.answers[part])

    @property
    def stream(self) -> slice:
        """Where the images of the stream are."""
        return slice(0, self.fresh)

    @property
    def memory(self) -> slice:
        """Where the images of the memory are."""
        return slice(self.fresh, None)


@final
@dataclass(frozen=True)
class Moment:
    """Where the stream stands when an experience comes.

    Attributes:
        network: What is trained, as earlier experiences left it.
        held: Normalised images of the memory, ordered by class; none: empty. A memory with a
            stage changes while the experience is learnt, and steps are told so.
        index: Which experience it is, from 0.
        images: How many the network learns from in an epoch, those of the memory aside.
        classes: Classes of the experience, and whether they came before doesn't matter.
        earlier: Classes of the experiences before it.
        answers: For each class, the classes that its images may be told to be, bool
            ``(num_classes, num_classes)``; None: all.
        recipe: How networks are trained.
        left: What the method's last lesson left; empty at first.
        rng: Draws what the lesson draws, and nothing else does.
    """

    network: Network
    held: LabelledImages
    index: int
    images: int
    classes: Sequence[int]
    earlier: Sequence[int]
    answers: Tensor | None
    recipe: Recipe
    left: State
    rng: torch.Generator


@final
@dataclass(frozen=True)
class Lesson:
    """How one experience is learnt.

    Attributes:
        loss: Of the network on a batch; its gradient is what the step follows.
        choose: Which of the memory's images, int64 ``(M,)``, a batch of the stream is
            extended by, from the network, that batch and what the memory holds now; None: as
            many as it has, drawn with replacement, so that the ratio is constant.
        adjust: Changes the gradients in place before the step, given the batch.
        stepped: Is told that a step was taken.
        leave: From the network, the experience's images and what the memory holds now, what
            the next lesson needs; None: nothing.
    """

    loss: Callable[[Network, Batch], Tensor]
    choose: Callable[[Network, LabelledImages, LabelledImages], Tensor] | None = None
    adjust: Callable[[Network, Batch], None] | None = None
    stepped: Callable[[Network], None] | None = None
    leave: Callable[[Network, LabelledImages, LabelledImages], State] | None = None


class ContinualMethod(ABC):
    """A continual method. Subclasses are final frozen dataclasses."""

    @property
    @abstractmethod
    def learns(self) -> Source:
        """What the network learns from when an experience comes.

        The experience; all that were seen, this one among them; the whole stream at once, as an
        upper bound; or, from scratch, what is replayed alone, once that has learnt the experience.
        """

    @property
    @abstractmethod
    def replayed(self) -> Replayed | None:
        """What is kept of earlier experiences, if anything."""

    @property
    def ahead(self) -> bool:
        """Whether the memory learns an experience, and not its stages, before the network does."""
        replayed = self.replayed
        if replayed is None or not replayed.ahead:
            return False
        return replayed.budget.staged is None or self.learns == "memory"

    @property
    def gives(self) -> int:
        """Networks that the tasks of its memory give: before the experience, and as it is then."""
        return 1 if self.ahead else 2

    def check_recipe(self, recipe: Recipe) -> None:  # noqa: B027  most methods take any
        """Refuses a training that the method can't do, before the stream begins.

        Raises:
            ValueError: Saying which setting must change.
        """

    @abstractmethod
    def lesson(self, moment: Moment) -> Lesson:
        """Returns how the experience that comes now is learnt.

        Raises:
            ValueError: If the method can't learn it, as one that needs a memory and has none.
        """

    @abstractmethod
    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:
        """Returns what answers: the network itself, or what compares its features.

        Args:
            network: As trained so far.
            held: What the memory holds.
        """


class Memoryless(ContinualMethod):
    """A method that learns an experience alone, and keeps no image of it."""

    @property
    def learns(self) -> Source:
        """The experience alone."""
        return "experience"

    @property
    def replayed(self) -> Replayed | None:
        """No images."""
        return None


class Rehearsal(ContinualMethod):
    """A method that learns an experience with images of a memory beside it.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
    """

    method: Condenser
    buffer: Budget

    @property
    def learns(self) -> Source:
        """The experience, with the memory beside it."""
        return "experience"

    @property
    def replayed(self) -> Replayed | None:
        """The memory."""
        return Replayed(self.method, self.buffer)


def plain(network: Network, batch: Batch) -> Tensor:
    """Returns the mean cross-entropy over stream and memory alike: the loss of naive replay."""
    return batch.cross_entropy(network(batch.images))
