r"""Distilling: the numbers of a synthetic set follow the gradient of an objective.

A set decodes its parameters :math:`\phi` to images :math:`x`; an objective answers with
cotangents :math:`\partial L / \partial x` and knows nothing of :math:`\phi`; the set turns
them into :math:`\partial L / \partial \phi`. Each step is

    1. clear the gradients;
    2. let the objective pull;
    3. clip, take the optimiser's step, and project.

The random streams of every step are named by its number, so a resumed run needs the
parameters, the optimiser's and the objective's state, and the number of the next step.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor

from distill.checks import at_least, positive, whole
from distill.condenser import Condenser, State, Step, Task
from distill.divergence import BOUND, LEAST, finite, usual_loss
from distill.initialise import first_code, paid
from distill.labels import Labels
from distill.learned import LABELS, RATES, Learned
from distill.objectives.base import Objective
from distill.optimisers import Optimiser
from distill.parameterisations.base import Code, Parameterisation
from distill.real import RealData
from distill.synthetic import Origin, SyntheticSet


@final
@dataclass(frozen=True)
class Distillation(Condenser):
    """A distilling method: objective, parameterisation, labels and their optimiser.

    Attributes:
        objective: What the set is asked for.
        parameterisation: How stored numbers become images.
        labels: How images are labelled.
        start: Makes the first images.
        optimiser: Moves the numbers.
        iterations: Steps in all, >= 1.
        clip: Largest norm of a step's gradient over all numbers, > 0; None: any.
        rate: Start of the learned step size of networks that train on the set, > 0; None:
            none is learned.
        rate_count: Step sizes learned, >= 1: one, or one for each of the first steps of a
            network's training, of which there are no fewer.
        loss_bound: Times the first step's loss (1 at least) that a loss may reach, >= 1; beyond
            it the run has diverged, and stops.
    """

    objective: Objective
    parameterisation: Parameterisation
    labels: Labels
    start: Condenser
    optimiser: Optimiser
    iterations: int
    clip: float | None = None
    rate: float | None = None
    rate_count: int = 1
    loss_bound: float = BOUND

    def __post_init__(self) -> None:
        whole("method.iterations", self.iterations, 1)
        whole("method.rate_count", self.rate_count, 1)
        at_least("method.loss_bound", self.loss_bound, 1)
        for name, value in (("clip", self.clip), ("rate", self.rate)):
            if value is not None:
                positive(f"method.{name}", value)
        self.objective.check(self.labels, self._first_rates)

    @property
    def _first_rates(self) -> list[float]:
        return [] if self.rate is None else [self.rate] * self.rate_count

    @property
    def makes_pixels(self) -> bool:
        """Whether the parameterisation is free pixels."""
        return self.parameterisation.is_plain

    def check(self, task: Task) -> None:
        """Refuses a task whose numbers don't pay for an image of every class."""
        paid(self.parameterisation, task, self.labels.numbers(task.real.num_classes))

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        """Yields every optimiser step.

        Raises:
            FloatingPointError: If the run diverges: a loss or a number of the set that is not
                finite, or a loss beyond ``loss_bound``.
        """
        run = _Run(self, task, state)
        start = run.state() if state is None else None
        if run.done == self.iterations:  # resumed at the end: the set is there already
            yield Step(run.done, self.iterations, None, run.state, run.result)
        while run.done < self.iterations:
            loss = run.step()
            yield Step(run.done, self.iterations, loss, run.state, run.result, start)
            start = None


class _Run:
    """One distillation under way: what changes from step to step."""

    def __init__(self, method: Distillation, task: Task, state: State | None) -> None:
        self.method, self.task = method, task
        real = RealData(task)
        state = self._first_state(real) if state is None else _onto(state, real.device)
        self.done, self.origin = int(state["done"]), _origin(state["origin"])
        shape = task.real.image_shape
        code = Code(method.parameterisation, state["code"], state["counts"].cpu(), shape)
        self.small = Learned(code, method.labels, state["others"])
        self.optimiser = method.optimiser.build(self.small.parameters)
        if "optimiser" in state:
            self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.pulling = method.objective.begin(real, state["objective"])
        self.usual_loss = float(state.get("usual_loss", LEAST))

    def _first_state(self, real: RealData) -> State:
        method, task = self.method, self.task
        code, origin = first_code(
            method.parameterisation,
            replace(task, real=method.labels.eligible(real)),
            method.start,
            method.labels.numbers(task.real.num_classes),
        )
        labels = method.labels.begin(code.as_images(), real)
        others = {} if labels is None else {LABELS: labels.to(task.real.images)}
        if method.rate is not None:
            others[RATES] = torch.full((method.rate_count,), method.rate).log()
        return {
            "done": 0,
            "origin": origin,
            "code": code.parameters,
            "counts": code.counts,
            "others": others,
            "objective": {},
        }

    def step(self) -> float:
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.pulling.step(self.done, self.small)
        self.done += 1
        bound = self.method.loss_bound
        self.usual_loss = usual_loss(loss, self.done, self.usual_loss, bound)
        if self.method.clip is not None:
            numbers = list(self.small.parameters.values())
            torch.nn.utils.clip_grad_norm_(numbers, self.method.clip)
        self.optimiser.step()
        source = self.method.parameterisation.source
        source.project_(self.small.code.parameters, self.task.normalisation)
        finite(self.small.parameters, self.done)
        return loss

    def state(self) -> State:
        return {
            "done": self.done,
            "origin": self.origin,
            "code": {k: v.detach().clone() for k, v in self.small.code.parameters.items()},
            "counts": self.small.code.counts,
            "others": {k: v.detach().clone() for k, v in self.small.others.items()},
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),
            "objective": self.pulling.state(),
            "usual_loss": self.usual_loss,
        }

    def result(self) -> SyntheticSet:
        small = self.small
        code = None if small.code.parameterisation.is_plain else small.code.detached()
        return SyntheticSet(
            small.as_images(), self.task.normalisation, self.origin, code, small.rates
        )


def _onto(state: Any, device: torch.device) -> Any:
    """Returns a state with its tensors on a device, in whatever mappings and sequences."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: _onto(value, device) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_onto(value, device) for value in state)
    return state


def _origin(name: str) -> Origin:
    return "real" if name == "real" else "noise"
