r"""FedAdam: FedAvg whose server takes Adam's steps.

With the clients' mean change :math:`\Delta_t = \sum_k p_k (x_t^k - x_t)` after local training,
:math:`p_k = n_k / \sum_j n_j`, and all operations by coordinate,

.. math::
    m_t = \beta_1 m_{t-1} + (1 - \beta_1) \Delta_t, \quad
    v_t = \beta_2 v_{t-1} + (1 - \beta_2) \Delta_t^2, \quad
    x_{t+1} = x_t + \eta \frac{m_t}{\sqrt{v_t} + \tau},

from :math:`m_{-1} = 0` and :math:`v_{-1} = \tau^2`.

References:
    | Adaptive Federated Optimization (Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar and
    | McMahan, ICLR 2021), https://arxiv.org/abs/2003.00295, Algorithm 2

Differences from the paper: the mean is weighted by images, as it is in the paper's experiments.
Flower's own FedAdam starts at v = 0 and corrects the bias of both moments; the paper doesn't.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch

from distill.checks import below_one, listed, positive, whole
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
class FedAdam(LocalTraining):
    r"""Federated averaging with Adam on the server.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        learning_rate: :math:`\eta` of the server, > 0.
        betas: :math:`\beta_1, \beta_2`, each in [0, 1).
        tau: :math:`\tau`, the degree of adaptivity, > 0.
    """

    rounds: int
    local: Recipe
    learning_rate: float
    betas: tuple[float, float]
    tau: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        positive("federated.learning_rate", self.learning_rate)
        positive("federated.tau", self.tau)
        listed("federated.betas", self.betas)
        if len(self.betas) != 2:
            raise ValueError(f"federated.betas must be two numbers, got {list(self.betas)}")
        for beta in self.betas:
            below_one("federated.betas", beta)

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
        """Returns the task with weights one step of Adam further, and both moments."""
        mean = weighted_mean(uploads).to_torch_state_dict()
        (beta_1, beta_2), x = self.betas, server.weights.to_torch_state_dict()
        m, v = dict(server.kept.get("m", {})), dict(server.kept.get("v", {}))
        for name, x_t in x.items():
            delta = mean[name] - x_t
            m_t = m.get(name, torch.zeros_like(x_t))
            v_t = v.get(name, torch.full_like(x_t, self.tau**2))
            m[name] = beta_1 * m_t + (1 - beta_1) * delta
            v[name] = beta_2 * v_t + (1 - beta_2) * delta.square()
            x[name] = x_t + self.learning_rate * m[name] / (v[name].sqrt() + self.tau)
        return replace(server, weights=pack_tensors(x), kept={"m": m, "v": v})
