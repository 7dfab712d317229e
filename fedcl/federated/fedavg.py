r"""FedAvg: clients train the global network on their own images; the server averages.

In round :math:`t` every client :math:`k` with :math:`n_k` images starts at :math:`w_t` and
takes local epochs of stochastic gradient descent to :math:`w_{t+1}^k`; then

.. math:: w_{t+1} = \sum_k \frac{n_k}{\sum_j n_j} w_{t+1}^k .

References:
    | Communication-Efficient Learning of Deep Networks from Decentralized Data
    | (McMahan, Moore, Ramage, Hampson and Aguera y Arcas, AISTATS 2017)
    | https://arxiv.org/abs/1602.05629

Differences from the paper: none.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

from distill.checks import whole
from distill.training import Recipe
from fedcl.federated.averaging import LocalTraining, check_network, sketched, trained, weighted_mean
from fedcl.federated.base import (
    MODEL,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)


@final
@dataclass(frozen=True)
class FedAvg(LocalTraining):
    """Federated averaging.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
    """

    rounds: int
    local: Recipe
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights."""
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

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the mean of the clients' weights."""
        return replace(server, weights=weighted_mean(uploads))
