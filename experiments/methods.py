"""What a script imports: any method by its name, and one call that makes one's own images small.

>>> import numpy as np
>>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
>>> small = condensed("kmeans", images, np.arange(40) % 4, "ipc=2")
>>> len(small), small.storage_bytes("uint8")
(8, 520)
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from distill.condenser import Condenser, condense
from distill.images import LabelledImages, Normalisation
from distill.synthetic import SyntheticSet
from experiments.build import Plan, plan
from experiments.networks import check_networks
from experiments.run import set_up
from experiments.scenarios.distillation import Distillation
from fedcl.datasets.arrays import labelled_part


def method(name: str, *words: str) -> Condenser:
    """Returns what ``method=name`` means on the command line.

    Args:
        name: As ``fedcl list methods`` has it.
        words: Further words of ``fedcl distill``, such as ``method.iterations=300``.

    Raises:
        CommandError: If the words don't compose, or a value breaks its rule.
    """
    return cast(Distillation, _planned(name, words).scenario).method


def condensed(
    name: str,
    images: npt.ArrayLike,
    labels: npt.ArrayLike,
    *words: str,
) -> SyntheticSet:
    """Returns the small set that ``fedcl distill method=name`` makes of such images.

    Args:
        name: As ``fedcl list methods`` has it.
        images: uint8, ``(N, H, W)`` or ``(N, H, W, C)``, as torchvision's data sets hold them.
        labels: Whole numbers, ``(N,)``, every class from 0 up.
        words: Further words of ``fedcl distill``, such as ``ipc=10``, ``network.width=64``, or
            ``dataset.mirror=true`` where a mirrored image keeps its label.

    Returns:
        Images ordered by class, where they were made, normalised by the mean and the deviation of
        each channel; ``small.normalisation.quantise(small.data.images)`` are their pixels.

    Raises:
        ValueError: If arrays, words or a value break their rule, or a network can't take the
            images.
    """
    stored = labelled_part(np.asarray(images), np.asarray(labels), "images", "labels")
    planned = _planned(name, words)
    scenario = cast(Distillation, planned.scenario)
    check_networks(scenario, stored)
    normalisation = Normalisation.of(stored.images)
    real = LabelledImages(normalisation(stored.images), stored.labels, stored.num_classes)
    return condense(scenario.method, scenario.task(real.to(set_up(planned)), normalisation))


def _planned(name: str, words: Sequence[str]) -> Plan:
    return plan("distillation", [f"method={name}", *words])
