r"""Distilling: synthetic images follow the gradient of an objective, seen by many networks.

Each step decodes the parameters :math:`\phi` to images :math:`x`, draws one siamese
transform :math:`A_{w_c}` per class for real and synthetic images alike, and cuts the
graph at :math:`s = A_w(x)`: the objective sees the leaf :math:`s` and returns
:math:`\partial L / \partial s`, which is then pulled back to :math:`\phi`.

    1. take the network of this step;
    2. draw real images and the transform of each class;
    3. decode and transform the synthetic images;
    4. pull the objective's gradient on them back to the parameters;
    5. take the optimiser's step and project.

The stream of every step is named by its number, so a resumed run needs the parameters, the
momentum and the number of the next step, and nothing else.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch

from distill.augment import Augmentation, Draw
from distill.checks import below_one, positive, whole
from distill.condenser import Condenser, State, Step, Task, condense
from distill.images import LabelledImages
from distill.networks import Architecture, Network, fresh
from distill.objectives.base import ClassBatch, Objective
from distill.parameterisations.base import Parameterisation
from distill.rng import derive
from distill.synthetic import Origin, SyntheticSet


@final
@dataclass(frozen=True)
class Distillation(Condenser):
    """A distilling method: objective, parameterisation, networks and their values.

    Attributes:
        objective: The loss on images.
        parameterisation: How stored numbers become images.
        start: Makes the first images.
        network: The architecture that sees them, freshly initialised.
        steps_per_network: Steps that one network serves, >= 1.
        augmentation: Drawn once per class and step, shared by real and synthetic images.
        iterations: Steps in all, >= 1.
        real_batch: Real images of each class a step, >= 1; all, where a class has fewer.
        learning_rate: Step size on the parameters, > 0.
        momentum: In [0, 1).
    """

    objective: Objective
    parameterisation: Parameterisation
    start: Condenser
    network: Architecture
    steps_per_network: int
    augmentation: Augmentation
    iterations: int
    real_batch: int
    learning_rate: float
    momentum: float

    def __post_init__(self) -> None:
        whole("method.steps_per_network", self.steps_per_network, 1)
        whole("method.iterations", self.iterations, 1)
        whole("method.real_batch", self.real_batch, 1)
        positive("method.learning_rate", self.learning_rate)
        below_one("method.momentum", self.momentum)

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        """Yields every optimiser step.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        run = _Run.start(self, task) if state is None else _Run(self, task, state)
        if run.done == self.iterations:  # resumed at the end: the set is there already
            yield Step(run.done, self.iterations, None, run.state, run.result)
        while run.done < self.iterations:
            loss = run.step()
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss must stay finite, got {loss} at step {run.done}; "
                    f"lower method.learning_rate, now {self.learning_rate}"
                )
            yield Step(run.done, self.iterations, loss, run.state, run.result)


class _Run:
    """One distillation under way: what changes from step to step."""

    def __init__(self, method: Distillation, task: Task, state: State) -> None:
        self.method, self.task, self.done = method, task, int(state["done"])
        self.origin: Origin = state["origin"]
        self.parameters = {k: v.clone().requires_grad_() for k, v in state["parameters"].items()}
        self.optimiser = torch.optim.SGD(
            self.parameters.values(), lr=method.learning_rate, momentum=method.momentum
        )
        if "optimiser" in state:
            self.optimiser.load_state_dict(copy.deepcopy(state["optimiser"]))
        self.by_class = [task.real.of_class(label) for label in task.classes]
        self.sizes = task.counts[task.counts > 0]
        self.network = self._network()

    @classmethod
    def start(cls, method: Distillation, task: Task) -> "_Run":
        first = condense(method.start, task)
        parameters = method.parameterisation.encode(first.data.images)
        method.parameterisation.project_(parameters, task.normalisation)
        return cls(method, task, {"parameters": parameters, "origin": first.origin, "done": 0})

    def step(self) -> float:
        rng = derive(self.task.seed, "step", self.done)
        draws = self._draw_transforms(rng)
        real = self._real_batch(draws, rng)
        loss = self._pull_back(real, draws)
        self.optimiser.step()
        self.method.parameterisation.project_(self.parameters, self.task.normalisation)
        self.done += 1
        if self.done % self.method.steps_per_network == 0:
            self.network = self._network()
        return loss

    def _network(self) -> Network:
        index = self.done // self.method.steps_per_network
        rng = derive(self.task.seed, "network", index)
        real = self.task.real
        network = fresh(self.method.network, real.image_shape, real.num_classes, rng)
        return network.requires_grad_(False)

    def _draw_transforms(self, rng: torch.Generator) -> list[Draw]:
        _, height, width = self.task.real.image_shape
        augmentation = self.method.augmentation
        return [augmentation.draw(1, (height, width), rng) for _ in self.by_class]

    def _real_batch(self, draws: list[Draw], rng: torch.Generator) -> ClassBatch:
        stacks = []
        for images, draw in zip(self.by_class, draws, strict=True):
            rows = torch.randperm(len(images), generator=rng)[: self.method.real_batch]
            stacks.append(draw(images[rows]))
        sizes = torch.tensor([len(stack) for stack in stacks])
        groups = torch.arange(len(stacks)).repeat_interleave(sizes)
        return ClassBatch(torch.cat(stacks), groups, len(stacks))

    def _pull_back(self, real: ClassBatch, draws: list[Draw]) -> float:
        images = self.method.parameterisation.decode(self.parameters)
        parts = torch.split(images, self.sizes.tolist())
        transformed = torch.cat([draw(part) for part, draw in zip(parts, draws, strict=True)])
        leaf = transformed.detach().requires_grad_()
        groups = torch.arange(len(draws)).repeat_interleave(self.sizes)
        synthetic = ClassBatch(leaf, groups, len(draws))
        loss = self.method.objective(self.network, real, synthetic)
        (cotangent,) = torch.autograd.grad(loss, leaf)
        self.optimiser.zero_grad(set_to_none=True)
        transformed.backward(cotangent)  # type: ignore[no-untyped-call]
        return loss.item()

    def state(self) -> State:
        parameters = {k: v.detach().clone() for k, v in self.parameters.items()}
        optimiser = copy.deepcopy(self.optimiser.state_dict())
        return {
            "parameters": parameters,
            "optimiser": optimiser,
            "origin": self.origin,
            "done": self.done,
        }

    def result(self) -> SyntheticSet:
        with torch.no_grad():
            images = self.method.parameterisation.decode(self.parameters).clone()
        data = LabelledImages(images, self.task.labels, self.task.real.num_classes)
        return SyntheticSet(data, self.task.normalisation, self.origin)
