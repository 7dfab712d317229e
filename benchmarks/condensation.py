"""What the steps of VICO-UoE/DatasetCondensation have in common: its images and networks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self, final

import numpy as np
from torch import Tensor

from benchmarks.released import Implementation
from benchmarks.setting import Setting

CODE = Implementation("VICO-UoE/DatasetCondensation", ("utils", "networks"))


@final
@dataclass(frozen=True)
class Condensation:
    """A condensation as its ``main.py`` and ``main_DM.py`` set it up.

    Attributes:
        utils: Its module of that name.
        images: The synthetic images, a leaf, ordered by class.
        real: The real images of each class.
        batch: Real images of a class a step.
        rng: Draws them.
    """

    utils: ModuleType
    images: Tensor
    real: Sequence[Tensor]
    batch: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    @classmethod
    def like(cls, utils: ModuleType, ours: Setting, batch: int) -> Self:
        """Returns the released side, with the images that ours starts from."""
        images = ours.learned().as_images().images.requires_grad_()
        return cls(utils, images, [ours.task.real.of_class(c) for c in ours.task.classes], batch)

    def network(self, width: int) -> Any:
        """Returns a fresh network."""
        _, *size = self.images.shape[1:]
        return self.utils.get_network(f"ConvNetW{width}", 1, len(self.real), size).train()

    def drawn(self, label: int) -> Tensor:
        """Returns real images of one class, as ``get_images`` draws them."""
        return self.real[label][self.rng.permutation(len(self.real[label]))[: self.batch]]

    def by_class(self) -> Sequence[Tensor]:
        """Returns the synthetic images of each class."""
        return self.images.chunk(len(self.real))
