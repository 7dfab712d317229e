"""Scikit-learn's digits, which are always there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from distill.images import LabelledImages
from distill.rng import derive
from fedcl.datasets.arrays import part
from fedcl.datasets.base import Dataset, Divided, Stored, stratified

# The test part is one draw for all seeds, so that results compare across them.
SPLIT_SEED = 0
TEST_SHARE = 0.2


@final
@dataclass(frozen=True)
class Digits(Divided):
    """Scikit-learn's 1,797 handwritten digits of 8 x 8 pixels: no file, no network.

    The 16 grey levels become uint8 by rounding ``x * 255 / 16``. The test part is a
    stratified fifth (360 images) that does not depend on the seed.

    Attributes:
        name: What reports call it.
        validation: Share of the training part held out, in [0, 1).
        train_images: Images kept of what remains; None keeps all.
        mirror: Whether a mirrored image keeps its label; augmentation configs read it.
        mean: Mean of each channel, in [0, 1]; None: that of the images trained on.
        std: Standard deviation of each channel, > 0; None exactly when ``mean`` is.
    """

    name: str
    validation: float
    train_images: int | None
    mirror: bool
    mean: Sequence[float] | None
    std: Sequence[float] | None

    def load(self, seed: int) -> Dataset:
        """Returns the digits, their training part divided by ``seed``.

        Raises:
            ValueError: If the division leaves too few training images.
        """
        digits = _all_digits()
        keep = len(digits) - math.ceil(TEST_SHARE * len(digits))
        rows, test = stratified(digits, keep, derive(SPLIT_SEED, "digits", "test"))
        names = [str(digit) for digit in range(digits.num_classes)]
        stored = Stored(self.name, digits.rows(rows), digits.rows(test), names)
        return self.divided(stored, seed)


def _all_digits() -> LabelledImages:
    from sklearn.datasets import load_digits  # half a second, and only needed here

    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)
    return part(pixels[..., None], digits.target.astype(np.int64), 10)
