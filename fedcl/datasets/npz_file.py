"""A user's own images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from fedcl.datasets.arrays import labelled, read_npz
from fedcl.datasets.base import Dataset, Divided, Stored


@final
@dataclass(frozen=True)
class NpzFile(Divided):
    """A user's own images: one .npz with uint8 ``x_train``, ``x_test`` and their labels.

    Attributes:
        name: What reports call it.
        path: The file; images ``(N, H, W)`` or ``(N, H, W, C)``, labels ``(N,)`` from 0.
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mirror: Whether a mirrored image keeps its label; augmentation configs read it.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    name: str
    path: str
    validation: float
    train_images: int | None
    mirror: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def load(self, seed: int) -> Dataset:
        """Returns the data set, its training part divided by ``seed``.

        Raises:
            ValueError: If there is no such file, or it is malformed.
        """
        path = Path(self.path).expanduser()
        training, test = labelled(read_npz(path), str(path))
        names = [str(label) for label in range(training.num_classes)]
        return self.divided(Stored(self.name, training, test, names), seed)

    def digest(self) -> str | None:
        """Returns the file's SHA-256, None where there is no file."""
        path = Path(self.path).expanduser()
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
