"""Noise: malicious clients upload images of independent uniform pixels, as many as are allowed."""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from distill.checks import whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack, own_stream, small_set
from fedcl.federated.base import FederatedMethod, LocalTask, Records


@final
@dataclass(frozen=True)
class Noise(Attack):
    """Images of noise for every class.

    Attributes:
        clients: How many are malicious, >= 0.
        images: Images of each class, >= 1; more than the method's ipc are refused.
    """

    clients: int
    images: int
    small_sets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        whole("attack.images", self.images, 1)

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:  # noqa: ARG002
        """Returns noise under every name."""
        world = task.world
        labels = torch.arange(world.num_classes).repeat_interleave(self.images)
        shape, stream = (len(labels), *world.image_shape), own_stream(task)
        pixels = torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)
        noise = LabelledImages(world.normalisation(pixels), labels, world.num_classes)
        return small_set(noise, self.images, world)

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> None:
        """Returns None: accuracy is to fall, whatever is answered."""
