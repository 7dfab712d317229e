"""How good is a small set: networks trained on it from scratch, tested on real images.

The presets of the literature are configurations of :class:`Evaluation`; the last iterate
counts, never the best one on the test part.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

from distill.checks import whole
from distill.images import LabelledImages
from distill.networks import Architecture, fresh
from distill.rng import derive
from distill.training import Recipe, score, train


@final
@dataclass(frozen=True)
class Evaluation:
    """An evaluation preset.

    Attributes:
        recipe: How each network is trained.
        networks: Networks trained from scratch, >= 1.
        updates: Optimiser steps of each, >= 1, whatever the number of images: it takes the
            place of the recipe's epochs, the decay at half of them. None: epochs count.
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
        """Returns the recipe for a set of so many images with these learned step sizes."""
        recipe = self.recipe
        if self.learned_rate and rates:
            recipe = replace(recipe, learning_rate=sum(rates) / len(rates))
        if self.updates is None:
            return recipe
        epochs = max(1, round(self.updates / math.ceil(images / recipe.batch)))
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
            train(network, small, recipe, derive(seed, "evaluation training", index))
            yield score(network, test)[0]
