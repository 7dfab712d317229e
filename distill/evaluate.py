"""How good is a small set: networks trained on it from scratch, tested on real images.

The presets of the literature are configurations of :class:`Evaluation`; the last iterate
counts, never the best one on the test part.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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
    """

    recipe: Recipe
    networks: int

    def __post_init__(self) -> None:
        whole("evaluation.networks", self.networks, 1)

    def accuracies(
        self,
        small: LabelledImages,
        test: LabelledImages,
        architecture: Architecture,
        seed: int,
    ) -> Iterator[float]:
        """Yields the test accuracy in [0, 1] of each network.

        Equal seeds give equal initial networks and orders, so two small sets that are
        evaluated under one seed are paired.

        Args:
            small: Normalised images to train on.
            test: Normalised images to score on.
            architecture: What is trained.
            seed: Names the streams of initialisation and training.
        """
        for index in range(self.networks):
            rng = derive(seed, "evaluation network", index)
            network = fresh(architecture, small.image_shape, small.num_classes, rng)
            train(network, small, self.recipe, derive(seed, "evaluation training", index))
            yield score(network, test)[0]
