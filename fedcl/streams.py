"""Which classes arrive when: the experiences of a continual stream.

Reference:
    | Three scenarios for continual learning (van de Ven and Tolias, 2019)
    | https://arxiv.org/abs/1904.07734
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.rng import derive


class Stream(ABC):
    """An order in which classes arrive. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def split(self, num_classes: int, seed: int) -> list[list[int]]:
        """Returns the classes of each experience, in the order of their arrival.

        Args:
            num_classes: Classes of the task.
            seed: Decides the order.

        Raises:
            ValueError: If the classes cannot fill the experiences.
        """


@final
@dataclass(frozen=True)
class ClassIncremental(Stream):
    """Each experience brings new classes; no class comes back.

    Attributes:
        experiences: Number of experiences, in [1, num_classes].
    """

    experiences: int

    def __post_init__(self) -> None:
        whole("stream.experiences", self.experiences, 1)

    def split(self, num_classes: int, seed: int) -> list[list[int]]:
        """Returns a random order of the classes, cut evenly into experiences.

        The order is drawn from the stream "class order" of ``seed``. Where the experiences
        do not divide the classes, the first experiences get one class more than the last.

        Raises:
            ValueError: If there are more experiences than classes.
        """
        if self.experiences > num_classes:
            raise ValueError(
                f"stream.experiences must be <= {num_classes}, the number of classes, "
                f"got {self.experiences}"
            )
        order = torch.randperm(num_classes, generator=derive(seed, "class order"))
        return [classes.tolist() for classes in order.tensor_split(self.experiences)]


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
