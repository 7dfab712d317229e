"""A released implementation, imported from its folder as it is.

Nothing of it is kept here. It was written for older libraries; what stops it is put right
around it: a module that it imports and doesn't use in the step measured is an empty one, and
the warnings of names that are going away are silenced while it runs.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import final

import torch
from torch import Tensor, nn

from experiments.errors import CommandError


@final
@dataclass(frozen=True)
class Implementation:
    """Whose code it is, and what is taken of it.

    Attributes:
        project: Owner and name on GitHub.
        modules: Names of the modules that are imported.
        unused: Modules of other projects that it imports and that the step doesn't use.
    """

    project: str
    modules: Sequence[str]
    unused: Sequence[str] = ()

    def load(self, folder: Path) -> list[ModuleType]:
        """Returns the modules.

        Raises:
            CommandError: If the folder doesn't hold them.
        """
        missing = [name for name in self.modules if not (folder / f"{name}.py").is_file()]
        if missing:
            raise CommandError(
                f"FOLDER must hold the released code of https://github.com/{self.project}, "
                f"got {folder} without {', '.join(f'{name}.py' for name in missing)}"
            )
        for name in self.unused:
            sys.modules.setdefault(name, ModuleType(name))
        warnings.simplefilter("ignore")
        sys.path.insert(0, str(folder.resolve()))
        try:
            return [importlib.import_module(name) for name in self.modules]
        finally:
            sys.path.pop(0)


def plainly_strided(images: Tensor) -> Tensor:
    """Returns a view of grey images with the strides of a new tensor.

    One channel may have any stride, and where it has that of a channels-last tensor, torch
    answers a convolution in channels-last, which the released networks' ``view`` refuses.
    """
    return images.flatten().view(images.shape)


@torch.no_grad()
def give_weights(network: nn.Module, model: nn.Module) -> None:
    """Copies the weights of ``model`` into ``network``, whose parameters have the same order."""
    for theirs, ours in zip(network.parameters(), model.parameters(), strict=True):
        theirs.copy_(ours)


def relative_difference(theirs: Tensor, ours: Tensor | None) -> float:
    """Returns the largest difference of two gradients, as a share of the largest entry."""
    if ours is None:
        raise ValueError("ours must be a gradient, got None")
    return float((theirs - ours).abs().max() / theirs.abs().max())
