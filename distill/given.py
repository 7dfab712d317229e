"""Networks that a task gives, the global one of a federated round, say: are they what is needed?"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from distill.networks import Architecture, ImageShape, blueprint
from distill.pullback import Weights, check_alike


@runtime_checkable
class Receiving(Protocol):
    """A part of a method that works with networks which its task gives."""

    def check_given(self, given: Sequence[Weights], image_shape: ImageShape, classes: int) -> None:
        """Refuses too few networks, or those of another architecture.

        Args:
            given: Weights by name, oldest first; their values mean nothing.
            image_shape: (C, H, W) of the task's images.
            classes: How many there are.

        Raises:
            ValueError: Saying what it needs.
        """


def stand_ins(weights: Weights, count: int) -> list[Weights]:
    """Returns networks that differ, for work that is planned before the given ones are there.

    Args:
        weights: Those of the first, by name.
        count: How many.
    """
    return [{name: w + 0.01 * i for name, w in weights.items()} for i in range(count)]


def check_all_alike(
    place: str,
    given: Sequence[Weights],
    architecture: Architecture,
    image_shape: ImageShape,
    classes: int,
) -> None:
    """Refuses weights that are not of an architecture.

    Args:
        place: What was given them and has the architecture, as ``network_source``.
        given: Weights by name.
        architecture: What they must be of.
        image_shape: (C, H, W) of the images that its networks take.
        classes: How many they tell apart.

    Raises:
        ValueError: Naming one that differs.
    """
    network = blueprint(architecture, image_shape, classes)
    for weights in given:
        check_alike(place, weights, network)
