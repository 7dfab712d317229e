"""How good is a small set: networks trained on it from scratch, tested on real images.

The presets of the literature are configurations of :class:`Evaluation`; the last iterate
counts, never the best one on the test part.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import final

import torch

from distill.checks import whole
from distill.images import LabelledImages
from distill.networks import Architecture, Network, fresh
from distill.rng import derive
from distill.training import Additions, Recipe, score, train

logger = logging.getLogger(__name__)

LOOKED_AT = 2000  # images that a network in training is scored on
BETWEEN_LOOKS = 10  # optimiser steps


@final
@dataclass(frozen=True)
class Evaluation:
    """An evaluation preset.

    Attributes:
        recipe: How each network is trained.
        networks: Networks trained from scratch, >= 1.
        updates: Optimiser steps of each, >= 1, whatever the number of images: it takes the
            place of the recipe's epochs, the decay at half of those begun. None: epochs count.
        learned_rate: Whether a step size that was learned with the set takes the place of the
            recipe's.
    """

    recipe: Recipe
    networks: int
    updates: int | None = None
    learned_rate: bool = False

    def __post_init__(self) -> None:
        whole("evaluation.networks", self.networks, 1)
        if self.updates is not None:
            whole("evaluation.updates", self.updates, 1)

    def recipe_for(self, images: int, rates: Sequence[float]) -> Recipe:
        """Returns the recipe for a set of so many images with these learned step sizes.

        Its epochs are as many as ``updates`` begin; the last one may be cut short.
        """
        recipe = self.recipe
        if self.learned_rate and rates:
            recipe = replace(recipe, learning_rate=sum(rates) / len(rates))
        if self.updates is None:
            return recipe
        epochs = math.ceil(self.updates / math.ceil(images / recipe.batch))
        decay_after = None if recipe.decay_after is None else max(1, epochs // 2)
        return replace(recipe, epochs=epochs, decay_after=decay_after)

    def accuracies(
        self,
        small: LabelledImages,
        test: LabelledImages,
        architecture: Architecture,
        seed: int,
        rates: Sequence[float] = (),
    ) -> Iterator[float]:
        """Yields the test accuracy in [0, 1] of each network.

        Equal seeds give equal initial networks and orders, so two small sets that are
        evaluated under one seed are paired.

        Args:
            small: Normalised images to train on.
            test: Normalised images to score on.
            architecture: What is trained.
            seed: Names the streams of initialisation and training.
            rates: Step sizes that were learned with the set.
        """
        recipe = self.recipe_for(len(small), rates)
        for index in range(self.networks):
            rng = derive(seed, "evaluation network", index)
            network = fresh(architecture, small.image_shape, small.num_classes, rng)
            network.to(small.images.device)
            rng = derive(seed, "evaluation training", index)
            loss = train(network, small, recipe, rng, Additions(enough=_after(self.updates)))
            if not math.isfinite(loss):
                logger.warning(
                    "the loss of evaluated network %d must stay finite, got %s with a step size of "
                    "%g; its accuracy says nothing: lower evaluation.recipe.learning_rate",
                    index,
                    loss,
                    recipe.learning_rate,
                )
            yield score(network, test)[0]


def _after(updates: int | None) -> Callable[[], bool]:
    """Returns what says yes when asked for the ``updates``-th time."""
    done = count(1)
    return lambda: next(done) == updates


@final
class Race:
    """Trains a network until it is as accurate as another, and takes the time.

    Attributes:
        seconds: What training took so far, looks left out.
        updates: Optimiser steps so far.
        won: Whether the network got there.
    """

    def __init__(self, network: Network, accuracy: float, test: LabelledImages) -> None:
        self.network, self.accuracy = network, accuracy
        self.test = test.rows(torch.linspace(0, len(test) - 1, min(len(test), LOOKED_AT)).long())
        self.seconds, self.updates, self.won = 0.0, 0, False
        self._clock = 0.0

    def run(self, data: LabelledImages, recipe: Recipe, rng: torch.Generator) -> None:
        """Trains on ``data`` until the accuracy is reached or the recipe is at its end."""
        self._clock = time.perf_counter()
        train(self.network, data, recipe, rng, Additions(enough=self._enough))

    def _enough(self) -> bool:
        self.updates += 1
        if self.updates % BETWEEN_LOOKS == 0:
            self.seconds += time.perf_counter() - self._clock
            self.won = score(self.network, self.test)[0] >= self.accuracy
            self.network.train()
            self._clock = time.perf_counter()
        return self.won
