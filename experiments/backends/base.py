"""What a back end is, and what of a federated run it needs to know."""

import shlex
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from experiments.scenarios.base import Run

if TYPE_CHECKING:  # a run without clients imports no Flower
    from fedcl.federated.base import FederatedMethod, World
    from fedcl.federated.channel import Channel
    from fedcl.federated.remote import RemoteGrid
    from fedcl.federated.strategy import Rules


@final
@dataclass(frozen=True)
class Composition:
    """The two strings from which every node composes the same scenario.

    Attributes:
        scenario: Which one, as ``federated``.
        overrides: Hydra's words, quoted as in a shell.
    """

    scenario: str
    overrides: str

    @classmethod
    def of(cls, scenario: str, words: Sequence[str]) -> Self:
        """Returns the composition of a command's words."""
        return cls(scenario, shlex.join(words))

    @property
    def words(self) -> list[str]:
        """The overrides, one by one."""
        return shlex.split(self.overrides)


class Federation(Run):
    """A run whose clients may work elsewhere."""

    world: "World"

    @property
    @abstractmethod
    def backend(self) -> "Backend":
        """Where they are to work."""

    @property
    @abstractmethod
    def rules(self) -> "Rules":
        """Who takes part, how long it takes them, and how many must complete."""

    @abstractmethod
    def methods(self) -> Mapping[str, "FederatedMethod"]:
        """Returns the methods by the action that asks a client for them."""

    @property
    @abstractmethod
    def channel(self) -> "Channel":
        """What clients and server compress."""

    @property
    def resumable(self) -> bool:
        """Whether others can go on in the clients' place, as these keep nothing of their own."""
        methods = self.methods().values()
        return not (self.channel.keeps_state or any(method.keeps_state for method in methods))

    @abstractmethod
    def on(self, grid: "RemoteGrid") -> Self:
        """Returns this run with its clients on another grid than the in-process one."""


class Backend(ABC):
    """Where clients work. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def place(self, federation: Federation, composition: Composition, folder: Path) -> Run:
        """Returns the run with its clients in their place.

        Args:
            federation: The run as it would be in this process.
            composition: What composes it on other nodes.
            folder: For the back end alone; nothing of it is left when the run has completed.

        Raises:
            CommandError: If the back end can't be had here.
        """
