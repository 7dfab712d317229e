"""Work of equal units, a few of which can be done to see how long all will take."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import final

from torch import nn

from distill.condenser import Condenser, Task
from distill.images import LabelledImages
from distill.rng import derive
from distill.training import Additions, Recipe, train


@final
@dataclass(frozen=True)
class Work:
    """A loop that can be cut short.

    Attributes:
        name: Of its kind; a unit takes about the same time in all work of one name.
        units: In all; None where only doing tells.
        do: Does so many units for real, at most all; returns how many there are in all.
    """

    name: str
    units: int | None
    do: Callable[[int], int]


def training(
    name: str,
    network: Callable[[], nn.Module],
    data: LabelledImages,
    recipe: Recipe,
    additions: Additions | None = None,
) -> Work:
    """Returns the training of what ``network`` makes; its units are optimiser steps."""
    steps = recipe.epochs * math.ceil(len(data) / recipe.batch)

    def do(units: int) -> int:
        done = count(1)
        cut = replace(additions or Additions(), enough=lambda: next(done) >= units)
        train(network(), data, recipe, derive(0, "work"), cut)
        return steps

    return Work(name, steps, do)


def condensing(name: str, method: Condenser, task: Task) -> Work:
    """Returns the making of a small set, whose units are the method's steps."""

    def do(units: int) -> int:
        for done, step in enumerate(method.steps(task), 1):
            total = step.total
            if done >= units:
                break
        return total

    return Work(name, None, do)
