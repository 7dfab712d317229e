"""The networks of a scenario, wherever they are in it: each is tried before anything runs."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch

from distill.condenser import Receiving
from distill.images import LabelledImages
from distill.networks import Architecture
from distill.objectives.matching import Matching
from fedcl.federated.base import FederatedMethod


def check_networks(scenario: object, images: LabelledImages) -> None:
    """Refuses a network that can't take the images, has nothing to match, or isn't given.

    Networks are built without memory or random numbers, so it costs nothing to ask all.

    Raises:
        ValueError: If there is one.
    """
    found = list(parts(scenario))
    gives = max((part.gives for part in found if isinstance(part, FederatedMethod)), default=0)
    for part in found:
        if isinstance(part, Receiving):
            part.check_given(gives)
    with torch.device("meta"):
        for architecture in architectures(scenario):
            architecture.build(images.image_shape, images.num_classes)
        for objective in found:
            if isinstance(objective, Matching):
                for architecture in architectures(objective.networks):
                    network = architecture.build(images.image_shape, images.num_classes)
                    objective.statistic.check(network)


def architectures(whole: object) -> Iterator[Architecture]:
    """Yields every architecture in a dataclass, in the fields of its fields too."""
    return (part for part in parts(whole) if isinstance(part, Architecture))


def parts(whole: object) -> Iterator[object]:
    """Yields a dataclass, its fields, and theirs."""
    yield whole
    if dataclasses.is_dataclass(whole) and not isinstance(whole, type):
        for field in dataclasses.fields(whole):
            yield from parts(getattr(whole, field.name))
    elif isinstance(whole, Mapping):
        for inner in whole.values():
            yield from parts(inner)
    elif isinstance(whole, Sequence) and not isinstance(whole, str):
        for inner in whole:
            yield from parts(inner)
