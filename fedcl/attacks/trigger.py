"""A trigger: a white square in the lower right corner, which is to be answered by one class."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import check_label


@final
@dataclass(frozen=True)
class Trigger:
    """A patch and the class that it is to mean.

    Attributes:
        side: Of the square, in pixels, >= 1.
        target: The class, >= 0.
    """

    side: int
    target: int

    def __post_init__(self) -> None:
        whole("attack.trigger.side", self.side, 1)
        whole("attack.trigger.target", self.target, 0)

    def stamped(self, images: Tensor, normalisation: Normalisation) -> Tensor:
        """Returns normalised images ``(N, C, H, W)`` with the patch; those given stay as they are.

        Args:
            images: Normalised images.
            normalisation: Says what white is.
        """
        channels = images.shape[1]
        white = normalisation(torch.full((1, channels, 1, 1), 255, dtype=torch.uint8))
        marked = images.clone()
        marked[:, :, -self.side :, -self.side :] = white.to(images)
        return marked

    def planted(
        self, data: LabelledImages, count: int, normalisation: Normalisation, rng: torch.Generator
    ) -> LabelledImages:
        """Returns up to ``count`` drawn images of other classes, stamped and labelled the target.

        Args:
            data: Normalised images with their true classes.
            count: How many.
            normalisation: Says what white is.
            rng: Draws the images.
        """
        others = self._others(data)
        rows = others[torch.randperm(len(others), generator=rng)[:count]]
        return self._labelled(data, rows, normalisation)

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages:
        """Returns all images of other classes, stamped and labelled the target.

        Raises:
            ValueError: If the task has no such class, or nothing of an image would be left.
        """
        check_label("attack.trigger.target", self.target, test.num_classes)
        height, width = test.image_shape[1:]
        if not self.side < min(height, width):
            raise ValueError(
                f"attack.trigger.side must be < {min(height, width)}, that of the images, "
                f"got {self.side}"
            )
        return self._labelled(test, self._others(test), normalisation)

    def _others(self, data: LabelledImages) -> Tensor:
        return (data.labels != self.target).nonzero().flatten()

    def _labelled(
        self, data: LabelledImages, rows: Tensor, normalisation: Normalisation
    ) -> LabelledImages:
        images = self.stamped(data.images[rows], normalisation)
        return LabelledImages(images, torch.full_like(rows, self.target), data.num_classes)
