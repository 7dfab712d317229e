"""Class-incremental streams: every experience brings new classes, and none comes back.

Where tasks are told, the stream is task-incremental: an image comes with the number of its
experience, and only that one's classes are answers.

Reference:
    | Three scenarios for continual learning (van de Ven and Tolias, 2019)
    | https://arxiv.org/abs/1904.07734
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch

from distill.checks import whole
from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.base import ClassStream, Experience, by_classes, in_groups


@final
@dataclass(frozen=True)
class ClassIncremental(ClassStream):
    """Each experience brings new classes; no class comes back.

    Attributes:
        experiences: Number of experiences, in [1, num_classes].
        shuffled: Whether the classes come in an order drawn by the seed, or in their own.
        sizes: Classes of each experience, each >= 1, or None: as evenly as they divide.
        tells_tasks: Whether an image comes with its task.
        online: Whether each image is to be seen once, which ``training`` sees to; a report compares
            no arms that differ in it.
    """

    experiences: int
    shuffled: bool = True
    sizes: Sequence[int] | None = None
    tells_tasks: bool = False
    online: bool = False

    def __post_init__(self) -> None:
        whole("stream.experiences", self.experiences, 1)
        for size in self.sizes or ():
            whole("stream.sizes", size, 1)
        if self.sizes is not None and len(self.sizes) != self.experiences:
            raise ValueError(
                f"stream.sizes must be {self.experiences} numbers, one for each experience, "
                f"got {len(self.sizes)}"
            )

    def divide(self, train: LabelledImages, test: LabelledImages, seed: int) -> list[Experience]:
        """Returns the images of the classes that :meth:`split` says."""
        return by_classes(train, test, self.split(train.num_classes, seed))

    def split(self, num_classes: int, seed: int) -> list[list[int]]:
        """Returns an order of the classes, cut into experiences by :func:`in_groups`.

        The order is drawn from the stream "class order" of ``seed``.

        Raises:
            ValueError: If there are more experiences than classes, or the sizes are not those
                of all classes.
        """
        if self.shuffled:
            order = torch.randperm(num_classes, generator=derive(seed, "class order"))
        else:
            order = torch.arange(num_classes)
        return in_groups(order, self.experiences, self.sizes)
