"""The networks of a scenario, wherever they are in it: each is tried before anything runs."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import torch

from distill.images import LabelledImages
from distill.networks import Architecture


def check_networks(scenario: object, images: LabelledImages) -> None:
    """Refuses a scenario with a network that can't take the images.

    Networks are built without memory or random numbers, so it costs nothing to ask all.

    Raises:
        ValueError: If there is one.
    """
    for architecture in architectures(scenario):
        with torch.device("meta"):
            architecture.build(images.image_shape, images.num_classes)


def architectures(part: object) -> Iterator[Architecture]:
    """Yields every architecture in a dataclass, in the fields of its fields too."""
    if isinstance(part, Architecture):
        yield part
    elif dataclasses.is_dataclass(part) and not isinstance(part, type):
        for field in dataclasses.fields(part):
            yield from architectures(getattr(part, field.name))
    elif isinstance(part, Mapping):
        for inner in part.values():
            yield from architectures(inner)
    elif isinstance(part, Sequence) and not isinstance(part, str):
        for inner in part:
            yield from architectures(inner)
