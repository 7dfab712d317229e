r"""FedNova: FedAvg that takes out how many steps each client made.

Client :math:`k` makes :math:`\tau_k` steps of step size :math:`\eta` from :math:`x` to
:math:`x_k`; with momentum :math:`\rho` its gradients add up with the weights

.. math::
    \|a_k\|_1 = \frac{1}{1 - \rho} \Big( \tau_k - \frac{\rho (1 - \rho^{\tau_k})}{1 - \rho} \Big),

which is :math:`\tau_k` without momentum. The server averages directions of equal length,
with :math:`p_k = n_k / \sum_j n_j`, and goes as far as the clients went on average:

.. math::
    d_k = \frac{x - x_k}{\|a_k\|_1}, \qquad
    x \leftarrow x - \Big( \sum_k p_k \|a_k\|_1 \Big) \sum_k p_k d_k .

References:
    | Tackling the Objective Inconsistency Problem in Heterogeneous Federated Optimization
    | (Wang, Liu, Liang, Joshi and Poor, NeurIPS 2020), https://arxiv.org/abs/2007.07481

Differences from the paper: no server momentum. The number of steps follows from the number of
images and the recipe, so that it isn't sent.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

from distill.checks import whole
from distill.training import Recipe
from fedcl.federated.averaging import (
    LocalTraining,
    RunningMean,
    arrays_of,
    check_network,
    packed,
    sketched,
    trained,
)
from fedcl.federated.base import (
    MODEL,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)
from fedcl.federated.local_steps import check_equal_steps, steps


@final
@dataclass(frozen=True)
class FedNova(LocalTraining):
    """Normalised averaging.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round; plain descent, with momentum or without.
    """

    rounds: int
    local: Recipe
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        check_equal_steps(self.local)

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
        """Returns the task with the weights after the step in the mean direction."""
        x, direction, way = arrays_of(server.weights), RunningMean(), 0.0
        for upload in uploads:
            length = self.length(upload.examples)
            d = {name: (x[name] - x_k) / length for name, x_k in arrays_of(upload.arrays).items()}
            direction.add(d, upload.examples)
            way += upload.examples * length
        mean, way = direction.mean(), way / direction.weight
        return replace(server, weights=packed({name: x[name] - way * mean[name] for name in x}))

    def length(self, images: int) -> float:
        r"""Returns :math:`\|a_k\|_1` of a client with so many images."""
        tau, rho = steps(self.local, images), self.local.momentum
        return float((tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho))
