"""What a script imports: any method by its name, one's own images made small, and that scored.

>>> import numpy as np
>>> images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
>>> small = condensed("kmeans", images, np.arange(40) % 4, "ipc=2")
>>> len(small), small.storage_bytes("uint8")
(8, 520)
>>> len(scored(small, images, np.arange(40) % 4, "network=mlp", "evaluation.networks=2"))
2
"""

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from distill.condenser import Condenser, condense
from distill.images import LabelledImages, Normalisation
from distill.rng import subseed
from distill.synthetic import SyntheticSet
from experiments.build import Plan, plan
from experiments.networks import check_networks
from experiments.run import set_up
from experiments.scenarios.distillation import Distillation
from fedcl.datasets.arrays import labelled_part

# Words that mean nothing where images are given, and a set is returned.
_UNHEARD = {"dataset", "evaluation", "across", "store", "stores", "random", "whole", "race"}


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
    _check_heard(words)
    planned = _planned(name, words)
    scenario = cast(Distillation, planned.scenario)
    check_networks(scenario, stored)
    normalisation = Normalisation.of(stored.images)
    real = LabelledImages(normalisation(stored.images), stored.labels, stored.num_classes)
    return condense(scenario.method, scenario.task(real.to(set_up(planned)), normalisation))


def scored(
    small: SyntheticSet, images: npt.ArrayLike, labels: npt.ArrayLike, *words: str
) -> list[float]:
    """Returns the accuracy of networks that learn a small set alone, as ``fedcl distill`` does.

    Args:
        small: The set.
        images: Whom they are tried on, uint8, ``(N, H, W)`` or ``(N, H, W, C)``.
        labels: Whole numbers, ``(N,)``, every class from 0 up.
        words: Words of ``fedcl distill``, such as ``network=mlp evaluation=dsa``.

    Returns:
        One in [0, 1] for each of ``evaluation.networks``.

    Raises:
        ValueError: If arrays, words or a value break their rule, the set has other classes, or the
            network can't take the images.
    """
    stored = labelled_part(np.asarray(images), np.asarray(labels), "images", "labels")
    if stored.num_classes != small.data.num_classes:
        raise ValueError(
            f"labels must be of {small.data.num_classes} classes, got {stored.num_classes}"
        )
    planned = _planned("random", words)
    scenario, device = cast(Distillation, planned.scenario), set_up(planned)
    check_networks(scenario, stored)
    small, images = small.to(device), small.normalisation(stored.images)
    test = LabelledImages(images, stored.labels, stored.num_classes).to(device)
    seed = subseed(scenario.seed, "evaluate")
    scores = scenario.evaluation.accuracies(small.data, test, scenario.network, seed, small.rates)
    return list(scores)


def _check_heard(words: Sequence[str]) -> None:
    for word in words:
        key = word.lstrip("+~").partition("=")[0]
        if key.partition(".")[0] in _UNHEARD and key != "dataset.mirror":
            raise ValueError(
                f"words must say how images are made small, got {word}, which condensed() doesn't "
                "heed: it takes the images it is given, and scores nothing"
            )


def _planned(name: str, words: Sequence[str]) -> Plan:
    return plan("distillation", [f"method={name}", *words])
