r"""Several small sets distilled in one call, each as it would be alone.

Where a statistic is a sum over classes, :math:`L = \sum_c L_c(\psi; x_c, s_c)`, and tasks
:math:`k` see the same networks :math:`\psi`, the pairs :math:`(k, c)` are the classes of one
larger task: its gradient on :math:`s_{kc}` is the one that task :math:`k` would give it. One pass
through the network serves all, where each would be too small to keep a processor busy.

    1. Every task draws from its own streams: its start, its real images, its transforms.
    2. The network sees the images of all. Each set is what it would be alone, to 1e-5, but where
       the rounding of a larger product moves a ReLU across its kink.
    3. The loss that is watched is the largest that a task has, over its own first one: all stop
       where one alone would.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from distill.condenser import Condenser, State, Step, Task, condense
from distill.divergence import LEAST
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.initialise import first_code
from distill.labels import Labels
from distill.learned import Learned
from distill.networks import Network
from distill.objectives.base import Objective, Pulling
from distill.objectives.matching import Matching, Separable, differentiated
from distill.real import ClassBatch, RealData
from distill.synthetic import Origin, SyntheticSet

MOST = 1024  # images that one step shows a network: its maps of so many are some 100 MB


def condense_together(condenser: Condenser, tasks: Sequence[Task]) -> list[SyntheticSet]:
    """Returns the small set of each task, made with others in one call where that is possible.

    Raises:
        FloatingPointError: If one of them diverges.
    """
    together, made = _together(condenser), list[SyntheticSet]()
    for stack in stacks(condenser, tasks):
        if together is None or len(stack) == 1:
            made += [condense(condenser, task) for task in stack]
        else:
            made += replace(together, tasks=stack).condensed()
    return made


def stacks(condenser: Condenser, tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Yields the tasks in their order, as many at once as one call takes.

    That is one, unless a :class:`Separable` statistic on free pixels sees networks that the tasks
    share; then as many as show a network ``MOST`` images in a step.
    """
    together, stack, shown = _together(condenser), list[Task](), 0
    for task in tasks:
        images = MOST + 1 if together is None else together.shown(task)
        if stack and (shown + images > MOST or not see_alike(task, stack[0])):
            yield stack
            stack, shown = [], 0
        stack, shown = [*stack, task], shown + images
    if stack:
        yield stack


def see_alike(task: Task, other: Task) -> bool:
    """Returns whether two tasks name their networks alike, and are given equal ones."""
    return (
        task.networks == other.networks is not None
        and len(task.given) == len(other.given)
        and all(
            mine.keys() == theirs.keys() and all(w.equal(theirs[n]) for n, w in mine.items())
            for mine, theirs in zip(task.given, other.given, strict=True)
        )
    )


@final
@dataclass(frozen=True)
class _Together(Objective):
    """Tasks whose classes are in a row, and how each would be distilled alone."""

    method: Distillation
    matching: Matching
    statistic: Separable
    tasks: Sequence[Task] = ()

    def check(self, labels: Labels, rates: Sequence[float]) -> None:
        self.matching.check(labels, rates)

    def begin(self, real: RealData, state: State) -> Pulling:  # noqa: ARG002
        reals = [RealData(task) for task in self.tasks]
        networks = self.matching.networks.begin(reals[0], {})
        watched = _Watched(self.statistic, [len(real.classes) for real in reals])
        return self.matching.pulling(reals, networks, watched.pull)

    def shown(self, task: Task) -> int:
        """Returns how many images, real and synthetic, a step of one task shows a network."""
        real = task.real.counts.clamp(max=self.matching.real_batch)
        return int(real[task.counts > 0].sum() + task.counts.sum())

    def condensed(self) -> list[SyntheticSet]:
        """Returns the small set of each task."""
        method, classes = self.method, self.tasks[0].real.num_classes
        starts = [first_code(method.parameterisation, task, method.start) for task in self.tasks]
        parts = [Learned(code, method.labels, {}).as_images() for code, _ in starts]
        labels = [part.labels + k * classes for k, part in enumerate(parts)]
        images = torch.cat([part.images for part in parts])
        real = LabelledImages(images, torch.cat(labels), classes * len(parts))
        task = Task(real, real.counts, self.tasks[0].normalisation, self.tasks[0].seed)
        small = condense(replace(method, objective=self, start=_AsTheyAre(starts[0][1])), task)
        split = torch.split(small.data.images, [len(part) for part in parts])
        return [
            replace(small, data=replace(part, images=images.clone()))
            for part, images in zip(parts, split, strict=True)
        ]


@final
@dataclass(frozen=True)
class _AsTheyAre(Condenser):
    """All images, where ``real`` holds what is wanted."""

    origin: Origin

    @property
    def makes_pixels(self) -> bool:
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        small = SyntheticSet(task.real, task.normalisation, self.origin)
        yield Step(1, 1, None, dict, lambda: small)


@final
class _Watched:
    """A statistic of stacked tasks, whose loss says how far the worst of them has gone astray."""

    def __init__(self, statistic: Separable, classes: Sequence[int]) -> None:
        self.statistic, self.first = statistic, Tensor()
        self.tasks = torch.arange(len(classes)).repeat_interleave(torch.tensor(classes))

    def pull(
        self,
        network: Network,
        real: ClassBatch,
        synthetic: ClassBatch,
        rng: torch.Generator,  # noqa: ARG002
    ) -> tuple[float, Tensor]:
        losses = self.statistic.losses(network, real, synthetic)
        _, gradient = differentiated(losses.sum(), synthetic)
        own = torch.zeros(int(self.tasks[-1]) + 1).index_add(0, self.tasks, losses.detach().cpu())
        if not len(self.first):
            self.first = own.clamp(min=LEAST)
        return (own / self.first).max().item(), gradient


def _together(condenser: Condenser) -> _Together | None:
    """Returns how several tasks become one; None where they can't."""
    if not isinstance(condenser, Distillation) or not isinstance(condenser.objective, Matching):
        return None
    matching = condenser.objective
    alone = not matching.networks.shared or condenser.clip is not None
    if alone or not condenser.makes_pixels or not isinstance(matching.statistic, Separable):
        return None
    return _Together(condenser, matching, matching.statistic)
