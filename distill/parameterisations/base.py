r"""How stored numbers become images: a source, then decoders.

A source keeps one row of numbers for each image it can recall, and perhaps numbers that all
rows share; each decoder maps what it is given to something closer to an image, with numbers
of its own, and may turn one row into several images (its branches). Image :math:`n` of the
set is branch :math:`n \bmod B` of row :math:`\lfloor n / B \rfloor`, where :math:`B` is the
product of all branches. Everything is differentiable, and nothing here knows of a loss.

References:
    | Generalizing Dataset Distillation via Deep Generative Prior (Cazenavette et al., CVPR 2023)
    | https://arxiv.org/abs/2305.01649, whose two-stage backward pass this cut allows
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, final

import torch
from torch import Tensor

from distill.images import LabelledImages, Normalisation
from distill.rng import derive, subseed

MOST = 10**6  # images per class: what more would need is not looked for

Parameters = Mapping[str, Tensor]
Shape = tuple[int, ...]


class TooFewNumbersError(ValueError):
    """The numbers of so many pixel images don't pay for a row of every class."""


class Source(ABC):
    """Recalls rows from stored numbers. Subclasses are final frozen dataclasses."""

    @property
    @abstractmethod
    def is_plain(self) -> bool:
        """Whether the numbers are the rows themselves."""

    @abstractmethod
    def rows(self, budget: "Budget", shape: Shape) -> Tensor:
        """Returns the rows of each class that a budget pays for, int64 ``(num_classes,)``.

        Args:
            budget: What may be stored.
            shape: The shape of one row.
        """

    @abstractmethod
    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Returns parameters that recall ``first`` ``(R, *shape)``, as nearly as they can."""

    @abstractmethod
    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the rows at ``index``, ``(n, *shape)``; differentiable."""

    @abstractmethod
    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Moves the parameters into the allowed set, in place, after an optimiser step."""


class Decoder(ABC):
    """Maps rows towards images. Subclasses are final frozen dataclasses."""

    @property
    @abstractmethod
    def branches(self) -> int:
        """The images that become of one row, >= 1."""

    @property
    @abstractmethod
    def learned(self) -> bool:
        """Whether its numbers are learned for one set, and paid for by it."""

    @abstractmethod
    def row_shape(self, shape: Shape) -> Shape:
        """Returns the shape of what goes in, where ``shape`` comes out.

        Raises:
            ValueError: If nothing could come out in this shape.
        """

    @abstractmethod
    def begin(self, real: LabelledImages, shape: Shape, seed: int) -> dict[str, Tensor]:
        """Returns the parameters to start from, with which ``shape`` comes out.

        Args:
            real: Normalised images to look at.
            shape: What comes out.
            seed: Names the random streams.
        """

    @abstractmethod
    def encode(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
        """Returns rows that decode to nearly ``images``, one for each."""

    @abstractmethod
    def decode(self, parameters: Parameters, rows: Tensor, wanted: "Wanted") -> Tensor:
        """Returns what is wanted of ``rows`` ``(n, *row_shape)``; differentiable."""


@final
@dataclass(frozen=True)
class Wanted:
    """What a decoder is asked for.

    Attributes:
        shape: What one row becomes.
        labels: The class of each row, int64 ``(n,)``.
        branch: Which of its branches, int64 in [0, branches), ``(n,)``.
    """

    shape: Shape
    labels: Tensor
    branch: Tensor


@final
@dataclass(frozen=True)
class Budget:
    """What a source may store.

    Attributes:
        numbers: In all.
        counts: The share of each class, int64 ``(num_classes,)``; 0: no row.
        label: Numbers that the labels of one row take out of it; 0 where they are hard.
    """

    numbers: int
    counts: Tensor
    label: int

    def pays(self, row: int, shared: int = 0) -> Tensor:
        """Returns how many rows of so many numbers it pays for, after what all rows share."""
        left = max(self.numbers - shared, 0)
        return self.counts * left // (int(self.counts.sum()) * (row + self.label))


@final
@dataclass(frozen=True)
class Parameterisation:
    """A source and the decoders behind it, in order.

    Attributes:
        source: Where the numbers are kept.
        decoders: What makes images of them; none: rows are images.
    """

    source: Source
    decoders: Sequence[Decoder] = ()

    @property
    def branches(self) -> int:
        """The images that become of one row."""
        return math.prod(decoder.branches for decoder in self.decoders)

    def shapes(self, image_shape: Shape) -> list[Shape]:
        """Returns the shape of rows, then what comes out of each decoder."""
        shapes = [tuple(image_shape)]
        for decoder in reversed(self.decoders):
            shapes.insert(0, decoder.row_shape(shapes[0]))
        return shapes

    @property
    def is_plain(self) -> bool:
        """Whether rows are images, as they are."""
        return not self.decoders and self.source.is_plain

    def decoding(
        self, real: LabelledImages, seed: int, learned: Sequence[bool] = (True, False)
    ) -> dict[str, Tensor]:
        """Returns the parameters of decoders to start from, prefixed by their positions.

        Args:
            real: Normalised images to look at.
            seed: Names the random streams.
            learned: Of which decoders: those that are learned for one set, those that are given.
        """
        shapes, parameters = self.shapes(real.image_shape), dict[str, Tensor]()
        for position, decoder in enumerate(self.decoders):
            if decoder.learned not in learned:
                continue
            own = decoder.begin(real, shapes[position + 1], subseed(seed, "decoder", position))
            parameters |= {f"{position}.{name}": value for name, value in own.items()}
        return parameters

    def rows(self, code: "Code", label: int, withheld: int = 0) -> Tensor:
        """Returns the rows of each class that the numbers of as many pixel images pay for.

        Args:
            code: The decoders' parameters, and the pixel images of each class.
            label: Numbers of the label of one image, which both would store; 0: a hard label.
            withheld: Numbers of these images that may not be used.

        Raises:
            TooFewNumbersError: If they don't pay for a row of every class.
        """
        rows = self._paid(code, code.counts, label, withheld)
        unpaid = (code.counts > 0) & (rows < 1)
        if unpaid.any():
            least = self._least(code, label, withheld)
            raise TooFewNumbersError(
                self._too_few(code, int(code.counts.where(unpaid, MOST).argmin()))
                if least == MOST
                else self._too_small(code, label, withheld, least)
            )
        return rows

    def _too_few(self, code: "Code", poor: int) -> str:
        return (
            f"class {poor} must have more real images for this parameterisation, got "
            f"{int(code.counts[poor])}: however large ipc, their share of the numbers doesn't pay "
            "for a row; give the class more, or take parameterisation=pixels"
        )

    def _too_small(self, code: "Code", label: int, withheld: int, least: int) -> str:
        numbers = self._numbers(code, code.counts, label) - withheld
        return (
            f"ipc must be >= {least} for this parameterisation, got {int(code.counts.max())}: "
            f"of {numbers} numbers ({4 * numbers} bytes of float32) decoders take "
            f"{code.numbers}, and the rest doesn't pay for a row a class; allow more images, or "
            "take parameterisation=pixels"
        )

    def _least(self, code: "Code", label: int, withheld: int) -> int:
        """Returns the least ipc that pays for a row of each class; ``MOST``: none does.

        Classes below the largest count stay there, for they have no more real images.
        """
        wanted, few = code.counts > 0, code.counts < code.counts.max()

        def pays(ipc: int) -> bool:
            counts = code.counts.clamp(max=ipc).where(few, torch.tensor(ipc))
            return bool((self._paid(code, counts, label, withheld)[wanted] > 0).all())

        return 1 + bisect_left(range(1, MOST), True, key=pays)

    def _paid(self, code: "Code", counts: Tensor, label: int, withheld: int) -> Tensor:
        numbers = self._numbers(code, counts, label) - withheld - code.numbers
        budget = Budget(numbers, counts, label * self.branches)
        return self.source.rows(budget, self.shapes(code.image_shape)[0])

    def _numbers(self, code: "Code", counts: Tensor, label: int) -> int:
        return int(counts.sum()) * (math.prod(code.image_shape) + label)

    def encode(self, decoding: Parameters, first: LabelledImages, seed: int) -> "Code":
        """Returns the code that decodes to nearly ``first``, one image for each row.

        Args:
            decoding: The parameters of all decoders.
            first: Normalised images, ordered by class.
            seed: Names the random streams.
        """
        images = first.images
        for position, decoder in reversed(list(enumerate(self.decoders))):
            images = decoder.encode(_of(decoding, position), images, first.labels)
        own = self.source.begin(images, derive(seed, "source"))
        return Code(self, {**decoding, **own}, first.counts * self.branches, first.image_shape)


@final
@dataclass(frozen=True)
class Code:
    """A parameterised stack of images.

    Attributes:
        parameterisation: How the numbers become images.
        parameters: The numbers, by name; a decoder's are prefixed by its position.
        counts: Images of each class that it decodes to, int64 ``(num_classes,)``.
        image_shape: (C, H, W).
    """

    parameterisation: Parameterisation
    parameters: Parameters
    counts: Tensor
    image_shape: Shape

    @property
    def labels(self) -> Tensor:
        """The class of each image, int64 ``(N,)``, ordered by class."""
        return torch.arange(len(self.counts)).repeat_interleave(self.counts)

    @property
    def numbers(self) -> int:
        """How many numbers are this set's own."""
        return sum(p.numel() for p in self.learned.values())

    @property
    def learned(self) -> Parameters:
        """The numbers that are this set's own, by name."""
        return {name: p for name, p in self.parameters.items() if self.is_learned(name)}

    @property
    def given_numbers(self) -> int:
        """The numbers of decoders that were given, as a generator is."""
        return sum(p.numel() for p in self.parameters.values()) - self.numbers

    def to(self, device: torch.device | str) -> Self:
        """Returns the same numbers on a device."""
        moved = {name: p.to(device) for name, p in self.parameters.items()}
        return replace(self, parameters=moved)

    def detached(self) -> Self:
        """Returns a copy without a graph."""
        copies = {name: p.detach().clone() for name, p in self.parameters.items()}
        return type(self)(self.parameterisation, copies, self.counts, self.image_shape)

    def is_learned(self, name: str) -> bool:
        """Returns whether a parameter is learned for this set."""
        position, dot, _ = name.partition(".")
        return not dot or self.parameterisation.decoders[int(position)].learned

    @torch.no_grad()
    def as_images(self) -> LabelledImages:
        """Returns all images with their classes, without a graph."""
        images = self.decode(torch.arange(len(self.labels)))
        return LabelledImages(images, self.labels.to(images.device), len(self.counts))

    def decode(self, index: Tensor) -> Tensor:
        """Returns the images at ``index``, ``(n, *image_shape)``; differentiable."""
        parameterisation, labels = self.parameterisation, self.labels[index]
        shapes = parameterisation.shapes(self.image_shape)
        images = parameterisation.source.recall(self.parameters, index // parameterisation.branches)
        branch = index % parameterisation.branches
        for position, decoder in enumerate(parameterisation.decoders):
            wanted = Wanted(shapes[position + 1], labels, branch % decoder.branches)
            images = decoder.decode(_of(self.parameters, position), images, wanted)
            branch = branch // decoder.branches
        return images


def _of(parameters: Parameters, position: int) -> Parameters:
    prefix = f"{position}."
    return {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
