"""What a federated continual method is: how clients learn an experience, and what is kept.

Each experience is learnt in some rounds of one federated method, after which another one,
if there is any, makes the memory. Both are ordinary federated methods, on the same grid.
"""

from abc import ABC, abstractmethod

from fedcl.federated.base import FederatedMethod, ServerTask
from fedcl.memory import Budget, Memory


class FederatedContinualMethod(ABC):
    """A federated continual method. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def learning(self) -> FederatedMethod:
        """Returns the method whose rounds learn one experience."""

    @property
    @abstractmethod
    def passes(self) -> int:
        """How often an experience's images are seen while it is learnt."""

    @abstractmethod
    def remembering(self) -> FederatedMethod | None:
        """Returns the method whose one round ends an experience, or None."""

    @property
    @abstractmethod
    def budget(self) -> Budget | None:
        """What each memory may hold; None: there is none."""

    @abstractmethod
    def held(self, task: ServerTask) -> list[Memory]:
        """Returns the memories once the stream is over, as far as their sizes go.

        Args:
            task: The server's, after the last round.
        """
