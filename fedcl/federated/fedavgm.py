r"""FedAvgM: FedAvg whose server takes steps with momentum.

With :math:`p_k = n_k / \sum_j n_j` and the clients' weights :math:`w_{t+1}^k` after local
training from :math:`w_t`, the server takes their mean change for a gradient:

.. math::
    \Delta w_t = \sum_k p_k (w_t - w_{t+1}^k), \quad
    v_{t+1} = \beta v_t + \Delta w_t, \quad
    w_{t+1} = w_t - \eta v_{t+1} .

References:
    | Measuring the Effects of Non-Identical Data Distribution for Federated Visual
    | Classification (Hsu, Qi and Brown, 2019), https://arxiv.org/abs/1909.06335

Differences from the paper: a server step size :math:`\eta`, which is 1 there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

from distill.checks import below_one, positive, whole
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
from fedcl.wire import pack_tensors


@final
@dataclass(frozen=True)
class FedAvgM(LocalTraining):
    r"""Federated averaging with server momentum.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        momentum: :math:`\beta`, in [0, 1); 0 with a step of 1 is FedAvg.
        learning_rate: :math:`\eta` of the server, > 0.
    """

    rounds: int
    local: Recipe
    momentum: float
    learning_rate: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        below_one("federated.momentum", self.momentum)
        positive("federated.learning_rate", self.learning_rate)

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
        """Returns the task with weights one momentum step further, and the velocity."""
        mean = weighted_mean(uploads).to_torch_state_dict()
        v, w = dict(server.kept), server.weights.to_torch_state_dict()
        for name, w_t in w.items():
            change = w_t - mean[name]
            v[name] = change + self.momentum * v[name] if name in v else change
            w[name] = w_t - self.learning_rate * v[name]
        return replace(server, weights=pack_tensors(w), kept=v)
