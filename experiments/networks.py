"""The networks of a scenario, wherever they are in it: each is tried before anything runs."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from torch.nn.modules.batchnorm import _BatchNorm

from distill.given import Receiving
from distill.images import LabelledImages
from distill.networks import Architecture, ImageShape, Network, blueprint
from distill.objectives.matching import Matching
from distill.pullback import Weights, weights_of
from fedcl.continual.base import ContinualMethod
from fedcl.federated.base import FederatedMethod


def check_networks(scenario: object, images: LabelledImages) -> None:
    """Refuses a network that can't take the images, has nothing to match, or isn't given.

    Nor may what it makes of an image depend on others of the batch, since batches are cut and
    joined everywhere, to save memory and time.

    Networks are built without memory or random numbers, so it costs nothing to ask all.

    Raises:
        ValueError: If there is one.
    """
    found, shape, classes = list(parts(scenario)), images.image_shape, images.num_classes
    for architecture in architectures(scenario):
        _check_alone(blueprint(architecture, shape, classes))
    given = _given(scenario, shape, classes)
    for part in found:
        if isinstance(part, Receiving):
            part.check_given(given, shape, classes)
        if isinstance(part, Matching):
            for architecture in architectures(part.networks):
                part.statistic.check(blueprint(architecture, shape, classes))


def _check_alone(network: Network) -> None:
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            raise ValueError(
                f"a network must take each image by itself, got {type(module).__name__} at {name}, "
                "which looks at the whole batch; take InstanceNorm2d or GroupNorm"
            )


def _given(scenario: object, image_shape: ImageShape, classes: int) -> list[Weights]:
    """Returns the shapes of the networks that a scenario's method gives its tasks."""
    methods = (p for p in parts(scenario) if isinstance(p, FederatedMethod | ContinualMethod))
    count, learnt = max((m.gives for m in methods), default=0), getattr(scenario, "network", None)
    if not isinstance(learnt, Architecture):
        return []
    return [weights_of(blueprint(learnt, image_shape, classes))] * count


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
