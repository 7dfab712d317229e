"""What is measured of ours: a run as ``fedcl distill`` composes it from its words."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, final

import torch

from benchmarks.allocation import as_glibc_adapts, as_we_set_it
from benchmarks.alternate import alternate
from distill.condenser import State, Step, Task, even_counts
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.initialise import first_code
from distill.learned import RATES, Learned
from distill.networks import Architecture, Network
from distill.real import ClassBatch, RealData
from distill.rng import derive
from experiments.build import plan
from experiments.errors import CommandError
from experiments.scenarios.distillation import Distillation as Scenario
from experiments.scenarios.distillation import DistillationRun


@final
@dataclass(frozen=True)
class Setting:
    """A distillation before its first step.

    Attributes:
        method: Objective, parameterisation and optimiser.
        task: Normalised real images, and how many synthetic ones of each class.
        architecture: What distils.
    """

    method: Distillation
    task: Task
    architecture: Architecture

    def double(self) -> Self:
        """Returns the same with images in float64, in which equal gradients are seen as equal."""
        real = self.task.real
        images = LabelledImages(real.images.double(), real.labels, real.num_classes)
        return replace(self, task=replace(self.task, real=images))

    def real_batch(self, per_class: int) -> ClassBatch:
        """Returns the real images of the first step, where no transform is drawn before them."""
        return RealData(self.task).batch(per_class, derive(self.task.seed, "step", 0))

    def network(self) -> Network:
        """Returns the network of the first step."""
        return RealData(self.task).fresh(self.architecture, "network", 0)

    def steps(self) -> Callable[[], Step]:
        """Returns what takes the next step of distilling."""
        steps = self.method.steps(self.task)
        return lambda: next(steps)

    def learned(self) -> Learned:
        """Returns the set as it starts."""
        method, rate = self.method, self.method.rate
        code, _ = first_code(method.parameterisation, self.task, method.start)
        others = {} if rate is None else {RATES: torch.full((method.rate_count,), rate).log()}
        return Learned(code, method.labels, others)

    def pulled(self, state: State | None = None) -> Learned:
        """Returns the set with the gradient of its first step.

        Args:
            state: What the objective goes on from; None: a fresh start.
        """
        small = self.learned()
        self.method.objective.begin(RealData(self.task), state or {}).step(0, small)
        return small


def composed(words: Sequence[str]) -> DistillationRun:
    """Returns the run that ``fedcl distill WORDS`` would start, its data loaded.

    Raises:
        CommandError: If the words are wrong, or the data can't be had.
    """
    scenario = plan("distillation", words).scenario
    if not isinstance(scenario, Scenario):
        raise TypeError(f"words must compose a distillation, got {type(scenario).__name__}")
    try:
        run = scenario.prepare("cpu")
    except ValueError as error:
        raise CommandError(str(error)) from error
    if not isinstance(run, DistillationRun):
        raise TypeError(f"the scenario must prepare a distillation, got {type(run).__name__}")
    return run


def setting(words: Sequence[str]) -> Setting:
    """Returns what ``fedcl distill WORDS`` would distil, for methods that distil."""
    run = composed(words)
    method = run.scenario.method
    if not isinstance(method, Distillation):
        raise TypeError(f"method must be one that distils, got {type(method).__name__}")
    counts = even_counts(run.train, run.scenario.ipc)
    task = Task(run.train, counts, run.data.normalisation, run.scenario.seed)
    return Setting(method, task, run.scenario.network)


def status(measure: Callable[[], None]) -> int:
    """Measures and returns 0; where code or data aren't there, says so and returns 2."""
    try:
        measure()
    except CommandError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def parser(description: str, rounds: int, *, folder: bool) -> argparse.ArgumentParser:
    """Returns the words that all benchmarks take.

    Args:
        description: What is measured.
        rounds: Timed calls of each side, unless the command says otherwise.
        folder: Whether a released implementation is compared with.
    """
    words = argparse.ArgumentParser(description=description)
    if folder:
        words.add_argument("folder", metavar="FOLDER", type=Path, help="the released code")
    words.add_argument("--rounds", type=int, default=rounds, help=f"timed calls, {rounds}")
    words.add_argument("--threads", type=int, default=torch.get_num_threads())
    words.add_argument(
        "--same-allocator",
        action="store_true",
        help="run the other side, too, with freed memory kept as our command line does",
    )
    return words


def compare(
    args: argparse.Namespace, theirs: tuple[str, Callable[[], object]], ours: Callable[[], object]
) -> str:
    """Times both sides in turns and returns the table.

    Args:
        args: The words that all benchmarks take.
        theirs: What is compared with, and its name.
        ours: What is measured.
    """
    name, call = theirs
    their_allocator = as_we_set_it if args.same_allocator else as_glibc_adapts
    return alternate(their_allocator(call), as_we_set_it(ours), args.rounds).table(name)
