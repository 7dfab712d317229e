"""A synthetic set while it is learned: drawn from by rows, pulled on by cotangents."""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from distill.images import LabelledImages
from distill.labels import Labels
from distill.parameterisations.base import Code

LABELS = "labels"  # the name of learned labels among the parameters
RATES = "rates"  # the name of learned step sizes, kept as their logarithms


@final
class Learned:
    """The live set: images and targets come out, gradients go in.

    Attributes:
        parameters: Everything that is learned, by name, as leaves.
        others: Those among them that are not of the images: labels, step size.
        code: How the images are kept.
        classes: The class of each image, int64 ``(N,)``, ordered by class.
    """

    def __init__(self, code: Code, labels: Labels, others: Mapping[str, Tensor]) -> None:
        leaves = {
            name: value.detach().clone().requires_grad_(code.is_learned(name))
            for name, value in code.parameters.items()
        }
        self.code = Code(code.parameterisation, leaves, code.counts, code.image_shape)
        self._labels = labels
        self.others = {k: v.detach().clone().requires_grad_() for k, v in others.items()}
        self.parameters = {k: v for k, v in leaves.items() if v.requires_grad} | self.others
        self.classes = self.code.labels
        ends = self.code.counts.cumsum(0)
        spans = zip((ends - self.code.counts).tolist(), ends.tolist(), strict=True)
        self.by_class = [torch.arange(first, last) for first, last in spans if last > first]

    def __len__(self) -> int:
        return len(self.classes)

    @property
    def branches(self) -> int:
        """B, the images that are made of one row: image n is made of row n // B."""
        return self.code.parameterisation.branches

    @property
    def rates(self) -> tuple[float, ...]:
        """The learned step sizes of a network that trains on the set; empty, if none are."""
        return tuple(self.others[RATES].exp().tolist()) if RATES in self.others else ()

    @torch.no_grad()
    def images(self, index: Tensor) -> Tensor:
        """Returns the images at ``index``, ``(n, C, H, W)``, without a graph."""
        return self.code.decode(index)

    @torch.no_grad()
    def targets(self, index: Tensor) -> Tensor:
        """Returns their classes, or their learned distributions ``(n, num_classes)``."""
        if LABELS in self.others:
            return self._labels.read(self.others[LABELS][index])
        return self.classes[index].to(next(iter(self.parameters.values())).device)

    def draw(self, per_class: int | None, rng: torch.Generator) -> list[Tensor]:
        """Returns the rows of some images of each class: all, where ``per_class`` is None."""
        return drawn(self.by_class, per_class, rng)

    def pull(self, index: Tensor, images: Tensor, targets: Tensor | None = None) -> None:
        """Adds to the parameters' gradients what cotangents on images and targets ask for.

        Args:
            index: Which images the cotangents are of.
            images: Cotangents of :meth:`images`.
            targets: Cotangents of :meth:`targets`, where these are learned.
        """
        decoded = self.code.decode(index)
        decoded.backward(images)  # type: ignore[no-untyped-call]
        if targets is not None and LABELS in self.others:
            read = self._labels.read(self.others[LABELS][index])
            read.backward(targets)  # type: ignore[no-untyped-call]

    def pull_rate(self, step: int, slope: float) -> None:
        """Adds to the gradient of a training step's size; ``slope`` is the derivative by it."""
        if RATES in self.others:
            rates = self.others[RATES]
            if rates.grad is None:
                rates.grad = torch.zeros_like(rates)
            rates.grad[step % len(rates)] += slope * rates.detach()[step % len(rates)].exp()

    def as_images(self) -> LabelledImages:
        """Returns all images with their targets, without a graph."""
        index = torch.arange(len(self))
        targets = self.targets(index) if LABELS in self.others else None
        images = self.images(index).clone()
        labels = self.classes.to(images.device)
        return LabelledImages(images, labels, len(self.code.counts), targets)


def drawn(by_class: list[Tensor], per_class: int | None, rng: torch.Generator) -> list[Tensor]:
    """Returns some rows of each class, ascending: all, where ``per_class`` is None."""
    if per_class is None:
        return by_class
    return [
        rows[torch.randperm(len(rows), generator=rng)[:per_class].sort().values]
        if len(rows) > per_class
        else rows
        for rows in by_class
    ]
