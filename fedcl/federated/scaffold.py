r"""SCAFFOLD: clients correct their drift by control variates.

The server keeps :math:`x` and :math:`c`, client :math:`i` of :math:`N` keeps :math:`c_i`, all
controls zero at first. In each round every client of the round, :math:`S`, with :math:`n_i`
images and :math:`p_i = n_i / \sum_{j \in S} n_j`,

    1. takes :math:`K_i` local steps from :math:`y = x`,
       :math:`y \leftarrow y - \eta_l (g_i(y) - c_i + c)`;
    2. sets :math:`c_i^+ = c_i - c + \frac{1}{K_i \eta_l} (x - y)` (option II of the paper);
    3. sends :math:`y`; and the server sets

.. math::
    x \leftarrow x + \eta_g \sum_{i \in S} p_i (y_i - x), \qquad
    c \leftarrow c + \frac{|S|}{N} \sum_{i \in S} p_i (c_i^+ - c_i) .

References:
    | SCAFFOLD: Stochastic Controlled Averaging for Federated Learning
    | (Karimireddy, Kale, Mohri, Reddi, Stich and Suresh, ICML 2020)
    | https://arxiv.org/abs/1910.06378

Differences from the paper: clients weigh as much as their images, in the weights as in the control;
in the paper they weigh alike, so that one with a few noisy steps moves both as far as one with
thousands of images. :math:`c_i^+ - c_i = \frac{1}{K_i \eta_l} (x - y_i) - c` holds nothing that the
server doesn't know, so it isn't sent: the upload is FedAvg's, half of the paper's, and so is the
number of steps, which follows from the images. Where messages are compressed, :math:`c` is what
clients read and :math:`y` what the server reads, on both sides, so that
:math:`\sum_i p_i c_i = c` stays true, for the share of images that was there in a round, unless an
answer comes too late to be used: that client's :math:`c_i` has moved. With momentum
:math:`\rho`, :math:`\eta_l` in the control is :math:`\eta_l / (1 - \rho)`, as far as a gradient
carries in the end.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

from flwr.app import ArrayRecord
from torch import Tensor, nn

from distill.checks import positive, whole
from distill.training import Additions, Recipe
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
from fedcl.federated.local_steps import carried, check_equal_steps
from fedcl.wire import pack_tensors

CONTROL = "control"


@final
@dataclass(frozen=True)
class Scaffold(LocalTraining):
    r"""Stochastic controlled averaging.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round; plain descent.
        learning_rate: :math:`\eta_g` of the server, > 0.
    """

    rounds: int
    local: Recipe
    learning_rate: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL, CONTROL)
    keeps_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        positive("federated.learning_rate", self.learning_rate)
        check_equal_steps(self.local)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights and the server's control."""
        return {MODEL: server.weights, CONTROL: self._control(server)}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after corrected local training; the client keeps its new control."""
        x, c = (task.received[name].to_torch_state_dict() for name in (MODEL, CONTROL))
        kept = task.state.get(CONTROL)
        c_i = kept.to_torch_state_dict() if isinstance(kept, ArrayRecord) else _zeros(c)

        there = task.world.device
        drift = {name: (c_i[name].to(there), c[name].to(there)) for name in c}

        def correct_drift(network: nn.Module) -> None:
            for name, y in network.named_parameters():
                if y.grad is not None:
                    own, common = drift[name]
                    y.grad.sub_(own).add_(common)

        sent = trained(task, self.local, Additions(correct_drift))
        y = task.arriving(sent)[MODEL].to_torch_state_dict()
        way = carried(self.local, len(task.data))
        task.state[CONTROL] = pack_tensors(
            {name: c_i[name] - c[name] + (x[name] - y[name]) / way for name in x}
        )
        return sent

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, and local training; a control is kept."""
        task.state[CONTROL] = task.received[CONTROL]
        return sketched(task, self.local)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with new weights and the new control."""
        control = self._control(server)
        x, c = arrays_of(server.weights), arrays_of(control)
        read = arrays_of(server.arrived.get(CONTROL, control))
        moves, changes = RunningMean(), RunningMean()
        for upload in uploads:
            n_i, y_i = upload.examples, arrays_of(upload.arrays)
            way = carried(self.local, n_i)
            moves.add({name: y_i[name] - x[name] for name in x}, n_i)
            changes.add({name: (x[name] - y_i[name]) / way - read[name] for name in x}, n_i)
        move, change = moves.mean(), changes.mean()
        images = sum(len(client[server.experience]) for client in server.world.clients)
        share = moves.weight / images
        weights = packed({name: x[name] + self.learning_rate * move[name] for name in x})
        kept = packed({name: c[name] + share * change[name] for name in x})
        return replace(server, weights=weights, kept=kept.to_torch_state_dict())

    def _control(self, server: ServerTask) -> ArrayRecord:
        return pack_tensors(server.kept or _zeros(server.weights.to_torch_state_dict()))


def _zeros(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.new_zeros(tensor.shape) for name, tensor in like.items()}
