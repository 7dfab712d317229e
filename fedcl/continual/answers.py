"""Which classes an image may be told to be, where it comes with its task.

One head for all classes, masked, is the multi-head network of task-incremental learning whose
heads share all but their last rows of weights.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn


def answers_by_class(groups: Sequence[Sequence[int]], num_classes: int) -> Tensor:
    """Returns for each class the classes of its task, bool, ``(num_classes, num_classes)``.

    >>> answers_by_class([[2, 0], [1]], 3).int().tolist()
    [[1, 0, 1], [0, 1, 0], [1, 0, 1]]

    Args:
        groups: Classes of each task.
        num_classes: Classes in all.

    Raises:
        ValueError: If a class is in two of them.
    """
    answers = torch.zeros(num_classes, num_classes, dtype=torch.bool)
    for classes in groups:
        for label in classes:
            if answers[label].any():
                raise ValueError(
                    "told tasks must have classes of their own, "
                    f"got class {label} in two; set stream.tells_tasks=false"
                )
            answers[label, list(classes)] = True
    return answers


def among(logits: Tensor, answers: Tensor) -> Tensor:
    """Returns logits ``(N, num_classes)`` with those of classes that are no answers at -infinity.

    Args:
        logits: What a network says.
        answers: Which classes each image may be told to be, bool, ``(N, num_classes)``.
    """
    return logits.masked_fill(~answers, -torch.inf)


@final
class Restricted(nn.Module):
    """A classifier whose answers are of some classes alone.

    Attributes:
        classifier: Maps images ``(N, C, H, W)`` to logits ``(N, num_classes)``.
        classes: The classes that it may answer.
    """

    def __init__(self, classifier: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.classifier, self.classes = classifier, list(classes)

    def forward(self, images: Tensor) -> Tensor:
        """Returns the logits, those of other classes at minus infinity."""
        logits: Tensor = self.classifier(images)
        restricted = torch.full_like(logits, -torch.inf)
        restricted[:, self.classes] = logits[:, self.classes]
        return restricted
