"""Do bases that are carried from an experience to the next help? RTP's, on a stream of digits.

    OMP_NUM_THREADS=1 python -m benchmarks.carried_bases --iterations 20 100 --seeds 0 1 2

Five experiences of two classes each become a set on three bases, in the bytes of ten images: from
bases of their own, as ``continual=addressable_memories`` has them, or from those that the
experience before has learned, with coefficients nearest to the same first images. Networks learn
all five sets from scratch. Each set keeps the bases it ends with: what is measured is where these
start.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self, cast, final

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from distill.condenser import Task, condense
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.parameterisations.base import Budget, Parameters, Shape, Source
from distill.synthetic import SyntheticSet
from experiments.methods import method, scored

WORDS = ("parameterisation.source.bases=3", "start=real", "network=mlp", "distiller=mlp")


@final
@dataclass(frozen=True)
class Carried(Source):
    """Shared bases that start where others ended.

    Attributes:
        own: How they start otherwise.
        bases: Where they start.
    """

    own: Source
    bases: Tensor

    @property
    def is_plain(self) -> bool:
        """False."""
        return False

    def rows(self, budget: Budget, shape: Shape) -> Tensor:
        """Returns the rows of its own bases."""
        return self.own.rows(budget, shape)

    def begin(self, first: Tensor, rng: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns the given bases, and the coefficients nearest to ``first``."""
        nearest = torch.linalg.lstsq(self.bases.flatten(1).T, first.flatten(1).T).solution
        return {"bases": self.bases.clone(), "coefficients": nearest.T.contiguous()}

    def recall(self, parameters: Parameters, index: Tensor) -> Tensor:
        """Returns the mixtures at ``index``."""
        return self.own.recall(parameters, index)

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Leaves everything as it is."""


@final
@dataclass(frozen=True)
class Stream:
    """Digits, half of them to learn from, and an order of the classes.

    Attributes:
        images: uint8, ``(N, 8, 8)``.
        labels: ``(N,)``.
        seed: Of the order, and of all that is made.
    """

    images: np.ndarray
    labels: np.ndarray
    seed: int

    @classmethod
    def of(cls, seed: int) -> Self:
        """Returns the stream of a seed."""
        found = load_digits()
        return cls((found.images * 15.9375).astype(np.uint8), found.target, seed)

    def tasks(self) -> Iterator[Task]:
        """Yields what each experience makes small."""
        pixels = torch.tensor(self.images[::2] / 255.0, dtype=torch.float32).unsqueeze(1)
        labels, normalisation = torch.tensor(self.labels[::2]), Normalisation.of(pixels)
        order = np.random.default_rng(self.seed).permutation(10)
        for pair in order.reshape(5, 2):
            rows = (labels == int(pair[0])) | (labels == int(pair[1]))
            real = LabelledImages(normalisation(pixels[rows]), labels[rows], 10)
            counts = torch.zeros(10, dtype=torch.int64)
            counts[pair] = 5
            yield Task(real, counts, normalisation, self.seed)

    def accuracy(self, carried: bool, iterations: int) -> float:
        """Returns what networks reach that learn the five sets from scratch."""
        own = cast(Distillation, method("rtp", *WORDS, f"method.iterations={iterations}"))
        made, last = list[SyntheticSet](), own
        for task in self.tasks():
            made.append(condense(last, task))
            code = made[-1].code
            if carried and code is not None:
                source = Carried(own.parameterisation.source, code.parameters["bases"])
                parameterisation = replace(own.parameterisation, source=source)
                last = replace(own, parameterisation=parameterisation)
        union = LabelledImages.union([small.data for small in made])
        whole = SyntheticSet(union, made[0].normalisation, "real")
        words = ("network=mlp", f"seed={self.seed}")
        return float(np.mean(scored(whole, self.images[1::2], self.labels[1::2], *words)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--iterations", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for steps in given.iterations:
        for seed in given.seeds:
            fresh, kept = (Stream.of(seed).accuracy(carried, steps) for carried in (False, True))
            print(f"{steps} steps, seed {seed}: own {100 * fresh:.1f}, carried {100 * kept:.1f}")
