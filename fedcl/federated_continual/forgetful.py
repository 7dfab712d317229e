"""Averaging on streams, nothing kept: every client trains on its current experience alone.

References:
    | Communication-Efficient Learning of Deep Networks from Decentralized Data
    | (McMahan et al., AISTATS 2017), https://arxiv.org/abs/1602.05629

Differences from the paper: the clients' data changes with the experience.
"""

from dataclasses import dataclass
from typing import final

from fedcl.federated.averaging import LocalTraining
from fedcl.federated.base import FederatedMethod, ServerTask
from fedcl.federated_continual.base import FederatedContinualMethod
from fedcl.memory import Budget, Memory


@final
@dataclass(frozen=True)
class Forgetful(FederatedContinualMethod):
    """No memory anywhere; the lower bound.

    Attributes:
        federated: How an experience is learnt.
    """

    federated: LocalTraining

    def learning(self) -> FederatedMethod:
        """Returns the federated method as it is."""
        return self.federated

    @property
    def passes(self) -> int:
        """The epochs of all rounds."""
        return self.federated.rounds * self.federated.local.epochs

    def remembering(self) -> FederatedMethod | None:
        """Returns None."""
        return None

    @property
    def budget(self) -> Budget | None:
        """None."""
        return None

    def held(self, task: ServerTask) -> list[Memory]:  # noqa: ARG002
        """Returns none."""
        return []
