r"""FedProx: FedAvg whose clients are held near the global network.

A client minimises, from :math:`w_t`,

.. math:: h_k(w; w_t) = F_k(w) + \frac{\mu}{2} \| w - w_t \|_2^2 ,

so that each step's gradient has the term :math:`\mu (w - w_t)`; the server averages as FedAvg.

References:
    | Federated Optimization in Heterogeneous Networks
    | (Li, Sahu, Zaheer, Sanjabi, Talwalkar and Smith, MLSys 2020)
    | https://arxiv.org/abs/1812.06127

Differences from the paper: all clients do the same local work; the paper lets stragglers do
less. The mean is weighted by images, as in FedAvg; the paper samples clients so instead.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

from torch import nn

from distill.checks import at_least, whole
from distill.training import Additions, Recipe
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
class FedProx(LocalTraining):
    """Federated averaging with a proximal term.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        mu: Strength of the proximal term, >= 0; 0 is FedAvg.
    """

    rounds: int
    local: Recipe
    mu: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        at_least("federated.mu", self.mu, 0)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights."""
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after local training on :math:`h_k`."""
        anchor = [parameter.detach() for parameter in task.network().parameters()]

        def add_proximal_gradient(network: nn.Module) -> None:
            for w, w_t in zip(network.parameters(), anchor, strict=True):
                if w.grad is not None:
                    w.grad.add_(w.detach() - w_t, alpha=self.mu)

        return trained(task, self.local, Additions(add_proximal_gradient))

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, and local training."""
        return sketched(task, self.local)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the mean of the clients' weights."""
        return replace(server, weights=weighted_mean(uploads))
