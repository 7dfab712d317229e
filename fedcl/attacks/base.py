"""What an attack is: what its clients upload instead of their honest work, and what they want."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Protocol, runtime_checkable

import torch

from distill.images import LabelledImages, Normalisation
from distill.rng import derive
from distill.synthetic import SyntheticSet
from fedcl.federated.base import IMAGES, FederatedMethod, LocalTask, Records, World
from fedcl.wire import pack_images


class Attack(ABC):
    """What malicious clients do. Subclasses are final frozen dataclasses.

    Attributes:
        clients: How many are malicious, >= 0; with 0 its success is that of no attack.
        small_sets: Whether it replaces small sets, so that other uploads can't be attacked so.
        outlives_compression: Whether it is still one after its arrays were compressed.
    """

    clients: int
    small_sets: ClassVar[bool]
    outlives_compression: ClassVar[bool] = True

    @abstractmethod
    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:
        """Returns what a malicious client uploads.

        Args:
            method: What an honest client does.
            task: The client's round.
        """

    @abstractmethod
    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages | None:
        """Returns images with the answers that the attackers want; None: they want no one answer.

        Args:
            test: Normalised images with their true classes.
            normalisation: Map between stored pixels and what networks see.

        Raises:
            ValueError: If the task has no such class.
        """


@runtime_checkable
class OfOneClass(Protocol):
    """An attack by images of one class, the source, which an attacker has to hold."""

    @property
    def source(self) -> int:
        """The class."""


def malicious(clients: int, world: World) -> list[int]:
    """Returns which clients are malicious, ascending; the first of one draw for all attacks."""
    order = torch.randperm(len(world.clients), generator=derive(world.seed, "attackers"))
    return sorted(order[:clients].tolist())


def own_stream(task: LocalTask) -> torch.Generator:
    """Returns the stream of a malicious client's draws, the same in every round."""
    return derive(task.world.seed, "attack", "client", task.client)


def working_on(task: LocalTask, data: LabelledImages) -> LocalTask:
    """Returns the task of a client that has other images."""
    clients = [list(parts) for parts in task.world.clients]
    clients[task.client][task.experience] = data
    return replace(task, world=replace(task.world, clients=clients))


def small_set(data: LabelledImages, most: int, world: World) -> Records:
    """Returns the first ``most`` images of each class as an upload."""
    rows = [(data.labels == label).nonzero().flatten()[:most] for label in range(data.num_classes)]
    chosen = data.rows(torch.cat(rows))
    return {IMAGES: pack_images(SyntheticSet(chosen, world.normalisation, "real"))}


def check_label(name: str, label: int, num_classes: int) -> None:
    """Refuses a class that the task has not.

    Raises:
        ValueError: If so.
    """
    if not label < num_classes:
        raise ValueError(f"{name} must be < {num_classes}, the number of classes, got {label}")
