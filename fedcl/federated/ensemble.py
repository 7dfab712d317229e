r"""Ensemble: clients upload their own networks once, whose mean answer counts.

Every client trains a network on its own images; the server answers with

.. math:: p(y \mid x) = \frac{1}{K} \sum_k \mathrm{softmax}(f_{w^k}(x))_y .

References:
    | One-Shot Federated Learning (Guha, Talwalkar and Smith, 2019)
    | https://arxiv.org/abs/1902.11175

Differences from the paper: every client is a member, where the paper selects some by their
validation score or their number of images; members are networks, not support vector machines,
and start alike. The server doesn't distil the ensemble into one network.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from distill.training import Recipe
from distill.work import Work
from fedcl.federated.averaging import check_network, sketched, trained
from fedcl.federated.base import (
    MODEL,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)


@final
@dataclass(frozen=True)
class Ensemble(FederatedMethod):
    """The mean answer of the clients' networks.

    Attributes:
        local: How a client trains.
        rounds: One.
    """

    local: Recipe
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)
    answers_together: ClassVar[bool] = True

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the first network."""
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after local training."""
        return trained(task, self.local)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, and local training."""
        return sketched(task, self.local)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task with as many members, and no work."""
        return self.aggregate(server, uploads), []

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the clients' networks as members."""
        return replace(server, members=[upload.arrays for upload in uploads])
