"""Do bases that are carried from an experience to the next help? RTP's, on a stream of digits.

    OMP_NUM_THREADS=1 python -m benchmarks.carried_bases --iterations 20 100 --seeds 0 1 2

Five experiences of two classes each become a set on three bases, in the bytes of ten images: from
bases of their own, as ``continual=addressable_memories`` has them, or from those that the
experience before has learned, with coefficients nearest to the same first images. Networks learn
all five sets from scratch. Each set keeps the bases it ends with: what is measured is where these
start.
"""

import argparse
from dataclasses import dataclass, replace
from statistics import mean
from typing import cast, final

import torch
from torch import Tensor

from distill.condenser import Task, condense, even_counts
from distill.engine import Distillation
from distill.images import LabelledImages, Normalisation
from distill.parameterisations.base import Budget, Parameters, Shape, Source
from distill.rng import subseed
from experiments.build import plan
from experiments.scenarios.distillation import Distillation as Scenario
from fedcl.streams.class_incremental import ClassIncremental

STREAM = ClassIncremental(experiences=5)
WORDS = (
    *("dataset=digits", "method=rtp", "start=real", "parameterisation.source.bases=3", "ipc=5"),
    *("network=mlp", "distiller=mlp"),
)


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


def accuracy(carried: bool, iterations: int, seed: int) -> float:
    """Returns what networks reach that learn the sets of all experiences from scratch."""
    words = (*WORDS, f"method.iterations={iterations}", f"seed={seed}")
    scenario = cast(Scenario, plan("distillation", words).scenario)
    own, data = cast(Distillation, scenario.method), scenario.dataset.load(seed)
    train, test = (data.normalised(part) for part in (data.train, data.test))
    made, method = list[LabelledImages](), own
    for experience in STREAM.divide(train, test, seed):
        real = experience.train.images()
        task = Task(real, even_counts(real, scenario.ipc), data.normalisation, seed)
        small = condense(method, task)
        made.append(small.data)
        if carried and small.code is not None:
            source = Carried(own.parameterisation.source, small.code.parameters["bases"])
            method = replace(own, parameterisation=replace(own.parameterisation, source=source))
    whole, evaluated = LabelledImages.union(made), subseed(seed, "evaluate")
    return mean(scenario.evaluation.accuracies(whole, test, scenario.network, evaluated))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--iterations", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    given = parser.parse_args()
    torch.set_num_threads(1)
    for steps in given.iterations:
        for seed in given.seeds:
            fresh, kept = (accuracy(carried, steps, seed) for carried in (False, True))
            print(f"{steps} steps, seed {seed}: own {100 * fresh:.1f}, carried {100 * kept:.1f}")
