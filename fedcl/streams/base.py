"""What a stream is: experiences, one after another, each judged by test images of its own.

Reference:
    | Three scenarios for continual learning (van de Ven and Tolias, 2019)
    | https://arxiv.org/abs/1904.07734
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.images import LabelledImages
from distill.rng import derive

logger = logging.getLogger(__name__)

View = Callable[[Tensor], Tensor]  # images (N, C, H, W) to images of that shape


def unchanged(images: Tensor) -> Tensor:
    """Returns images as they are."""
    return images


@final
@dataclass(frozen=True)
class Excerpt:
    """Some images of a part, seen in some way; copied when they are asked for, and not before.

    Attributes:
        part: Normalised images.
        rows: Which of them, int64, ``(n,)``.
        view: How they are seen.
    """

    part: LabelledImages
    rows: Tensor
    view: View = unchanged

    def __len__(self) -> int:
        return len(self.rows)

    def images(self) -> LabelledImages:
        """Returns the images in the order of ``rows``."""
        chosen = self.part.rows(self.rows)
        return LabelledImages(self.view(chosen.images), chosen.labels, chosen.num_classes)

    @property
    def counts(self) -> Tensor:
        """Images of each class, int64, ``(num_classes,)``."""
        labels = self.part.labels[self.rows]
        return torch.bincount(labels, minlength=self.part.num_classes).cpu()


@final
@dataclass(frozen=True)
class Experience:
    """What arrives at once.

    Attributes:
        train: What is learnt from.
        test: What it is judged by.
        classes: What it is about, in the order of arrival.

    Raises:
        ValueError: If one of its classes has no image to learn from, or none to judge by.
    """

    train: Excerpt
    test: Excerpt
    classes: Sequence[int]

    def __post_init__(self) -> None:
        for part, counts in (("training", self.train.counts), ("test", self.test.counts)):
            missing = [label for label in self.classes if not counts[label]]
            if missing:
                raise ValueError(
                    f"an experience must have {part} images of each of its classes, "
                    f"got none of class {missing[0]}; take more images or fewer experiences"
                )


class Stream(ABC):
    """A division of a data set over time. Subclasses are final frozen dataclasses.

    Attributes:
        online: Whether each image is to be seen once.
    """

    online: bool = False

    @property
    @abstractmethod
    def tells_tasks(self) -> bool:
        """Whether an image comes with its task, so that the task's classes alone are answers."""

    @abstractmethod
    def divide(self, train: LabelledImages, test: LabelledImages, seed: int) -> list[Experience]:
        """Returns the experiences, in the order of their arrival.

        Args:
            train: Normalised images to learn from.
            test: Normalised images to judge by, of the same classes.
            seed: Decides what is random about it.

        Raises:
            ValueError: If the data cannot fill the experiences.
        """


class ClassStream(Stream):
    """A stream whose experiences bring classes that never come back."""

    @abstractmethod
    def split(self, num_classes: int, seed: int) -> list[list[int]]:
        """Returns the classes of each experience, in the order of their arrival.

        Args:
            num_classes: Classes of the task.
            seed: Decides the order.

        Raises:
            ValueError: If the classes cannot fill the experiences.
        """


def by_classes(
    train: LabelledImages, test: LabelledImages, groups: Sequence[Sequence[int]]
) -> list[Experience]:
    """Returns experiences that hold all images of their classes."""
    return [
        Experience(
            Excerpt(train, experience_rows(train.labels, classes)),
            Excerpt(test, experience_rows(test.labels, classes)),
            classes,
        )
        for classes in groups
    ]


def by_views(
    train: LabelledImages, test: LabelledImages, views: Sequence[View], divided: bool, seed: int
) -> list[Experience]:
    """Returns experiences of all classes and test images, each seen in a way of its own.

    Args:
        train: Normalised images to learn from.
        test: Normalised images to judge by.
        views: How each experience is seen, in training and test alike.
        divided: Whether each has a stratified share of the training images, or all of them.
        seed: Draws the shares from its stream "shares".
    """
    shares = [torch.arange(len(train))] * len(views)
    if divided:
        shares = stratified_shares(train.labels.cpu(), len(views), derive(seed, "shares"))
    judged, classes = torch.arange(len(test)), list(range(train.num_classes))
    return [
        Experience(Excerpt(train, rows, view), Excerpt(test, judged, view), classes)
        for view, rows in zip(views, shares, strict=True)
    ]


def stratified_shares(labels: Tensor, count: int, rng: torch.Generator) -> list[Tensor]:
    """Returns disjoint shares of all images; in size and in each class they differ by one at most.

    Args:
        labels: Class of each image, int64, ``(N,)``.
        count: Number of shares.
        rng: Draws which images of a class go where.

    Returns:
        Ascending int64 indices.
    """
    drawn = torch.randperm(len(labels), generator=rng)
    by_class = drawn[labels[drawn].argsort(stable=True)]
    return [by_class[first::count].sort().values for first in range(count)]


def in_groups(
    order: Tensor, experiences: int, sizes: Sequence[int] | None = None
) -> list[list[int]]:
    """Returns classes in an order, cut into experiences.

    Without sizes, where the experiences don't divide the classes, the first experiences get
    one class more than the last, and the log says so.

    Args:
        order: All classes.
        experiences: Number of experiences.
        sizes: Classes of each; None: as evenly as they divide.

    Raises:
        ValueError: If there are more experiences than classes, or the sizes are not those of
            all classes.
    """
    if experiences > len(order):
        raise ValueError(
            f"stream.experiences must be <= {len(order)}, the number of classes, got {experiences}"
        )
    if sizes is None:
        groups = order.tensor_split(experiences)
        if len(order) % experiences:
            logger.warning(
                "%d experiences do not divide %d classes: they have %s classes",
                experiences,
                len(order),
                ", ".join(str(len(group)) for group in groups),
            )
    elif sum(sizes) != len(order):
        raise ValueError(
            f"stream.sizes must add up to {len(order)}, the number of classes, got {sum(sizes)}"
        )
    else:
        groups = torch.split(order, list(sizes))
    return [classes.tolist() for classes in groups]


def experience_rows(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Returns the ascending int64 indices of the images of ``classes``, ``(n,)``.

    >>> experience_rows(torch.tensor([2, 0, 1, 2]), [2, 0]).tolist()
    [0, 1, 3]

    Args:
        labels: Class of each image, int64, ``(N,)``.
        classes: The classes of one experience.
    """
    wanted = torch.tensor(classes, dtype=labels.dtype, device=labels.device)
    return torch.isin(labels, wanted).nonzero().squeeze(1)
