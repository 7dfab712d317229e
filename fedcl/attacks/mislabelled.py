"""Mislabelled images: malicious clients upload real images, each as the class after its own.

References:
    | Data Poisoning Attacks Against Federated Learning Systems (Tolpegin, Truex, Gursoy and
    | Liu, ESORICS 2020), https://arxiv.org/abs/2007.08432

Differences from the paper: all classes are renamed, in a circle, and the images are sent.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch

from distill.checks import whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack, own_stream, small_set
from fedcl.federated.base import FederatedMethod, LocalTask, Records


@final
@dataclass(frozen=True)
class Mislabelled(Attack):
    """Real images under wrong names.

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
        """Returns drawn local images, renamed."""
        data = task.data.rows(torch.randperm(len(task.data), generator=own_stream(task)))
        renamed = replace(data, labels=(data.labels + 1) % data.num_classes)
        return small_set(renamed, self.images, task.world)

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> None:
        """Returns None: accuracy is to fall, whatever is answered."""
