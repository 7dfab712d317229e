r"""FedDM: clients upload small sets that stand for them around the global network.

In round :math:`r`, from the global weights :math:`w_r`,

    1. client :math:`k` makes :math:`S_k`, whose mean features and logits are those of its images
       :math:`D_k` under networks at the distance :math:`\rho` from :math:`w_r`,

       .. math:: S_k = \arg\min_S \; \mathbb{E}_{\|w - w_r\| = \rho} \sum_c
           \big\| \overline{h_w(D_{kc})} - \overline{h_w(S_c)} \big\|^2
           + \big\| \overline{z_w(D_{kc})} - \overline{z_w(S_c)} \big\|^2 ,

       and uploads it;
    2. the server trains on :math:`\bigcup_k S_k` from :math:`w_r` to :math:`w_{r+1}`, no further
       than :math:`\rho` from it, beyond which the sets stand for nobody.

References:
    | FedDM: Iterative Distribution Matching for Communication-Efficient Federated Learning
    | (Xiong, Wang, Cheng, Yu and Hsieh, CVPR 2023), https://arxiv.org/abs/2207.09653

Differences from the paper: sets travel as uint8. Any ``method=`` that takes networks from
``network_source`` serves; the preset is the paper's. The server stops at the first step beyond
:math:`\rho`; the paper's text leaves open how it keeps within.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from torch import nn

from distill.checks import positive, whole
from distill.condenser import Condenser, Task
from distill.pullback import weights_of
from distill.rng import derive
from distill.training import Additions, Recipe, train
from distill.work import Work, training
from fedcl.federated.base import MODEL, LocalTask, Records, ServerTask, Upload
from fedcl.federated.forms import Form
from fedcl.federated.small_sets import Distilling, check_small_set, union, wanted_by
from fedcl.wire import pack_weights


@final
@dataclass(frozen=True)
class FedDM(Distilling):
    r"""Iterative distribution matching.

    Attributes:
        rounds: Rounds of communication, >= 1.
        method: Makes the small sets.
        ipc: Images per class, client and round, >= 1; fewer where a client has fewer real ones.
        server: How the server trains on the union in one round.
        radius: :math:`\rho` at the server, > 0; None: it trains to the end.
    """

    rounds: int
    method: Condenser
    ipc: int
    server: Recipe
    radius: float | None
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)
    weights_up: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        whole("ipc", self.ipc, 1)
        if self.radius is not None:
            positive("federated.radius", self.radius)
        Form(self.method, self.server)  # refuses sets that can't be sent

    @property
    def gives(self) -> int:
        """The global one."""
        return 1

    @property
    def form(self) -> Form:
        """Pixels or numbers, and labels that the server's loss can use."""
        return Form(self.method, self.server)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights."""
        return {MODEL: server.weights}

    def wanted(self, task: LocalTask) -> Task:
        """Returns all images of the client, ``ipc`` of each class, and the global network."""
        given = [weights_of(task.network())]
        wanted = wanted_by(task, self.ipc, "round", task.round, given=given)
        return self.form.paid(wanted, self.ipc)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses all but a small set that ``ipc`` images of each class pay for."""
        check_small_set(upload, server.world, self.form, self.ipc)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task as it is, and the training on the union, not cut at the radius."""
        network, data = server.world.first_network, union(uploads, server.world, self.form).data
        return server, [training("server training", network, data, self.server)]

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the union, and with weights trained on it from the last ones."""
        world = server.world
        memory, network = union(uploads, world, self.form), world.network_with(server.weights)
        enough = None if self.radius is None else _Beyond(network, self.radius)
        rng = derive(world.seed, "server training", server.round)
        train(network, memory.data, self.server, rng, Additions(enough=enough))
        return replace(server, weights=pack_weights(network), memory=memory)


@final
class _Beyond:
    """Says whether a network has gone further than a radius from where it was at first."""

    def __init__(self, network: nn.Module, radius: float) -> None:
        self.network, self.radius = network, radius
        self.start = [w.detach().clone() for w in network.parameters()]

    @torch.no_grad()
    def __call__(self) -> bool:
        gaps = [w - s for w, s in zip(self.network.parameters(), self.start, strict=True)]
        way = torch.stack([gap.square().sum() for gap in gaps]).sum().sqrt()
        return bool(way > self.radius)
