r"""MOON: clients keep their features near the global network's, and off their own last ones.

For an image, let :math:`z`, :math:`z_{glob}` and :math:`z_{prev}` be the features under the
network in training, the global network that came, and this client's network at the end of its
last round. With the cosine similarity, a client minimises the cross-entropy plus

.. math:: \mu \, \ell_{con}, \qquad \ell_{con} = -\log
    \frac{\exp(\mathrm{sim}(z, z_{glob}) / \tau)}
    {\exp(\mathrm{sim}(z, z_{glob}) / \tau) + \exp(\mathrm{sim}(z, z_{prev}) / \tau)} ;

the server averages as FedAvg.

References:
    | Model-Contrastive Federated Learning (Li, He and Song, CVPR 2021)
    | https://arxiv.org/abs/2103.16257

Differences from the paper: features are those that the classifier reads; the paper puts a
projection of two layers between. In a client's first round there is no last network, and no
contrast; the paper takes the global network for it, whose contrast has no gradient either.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch
from flwr.app import ArrayRecord
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, positive, whole
from distill.networks import Network
from distill.training import Additions, Recipe, train
from fedcl.federated.averaging import LocalTraining, check_network, sent, sketched, weighted_mean
from fedcl.federated.base import (
    MODEL,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)

PREVIOUS = "previous"


@final
@dataclass(frozen=True)
class Moon(LocalTraining):
    r"""Federated averaging with a model-contrastive loss.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        mu: :math:`\mu`, the strength of the contrast, >= 0; 0 is FedAvg.
        temperature: :math:`\tau`, > 0.
    """

    rounds: int
    local: Recipe
    mu: float
    temperature: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)
    keeps_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        at_least("federated.mu", self.mu, 0)
        positive("federated.temperature", self.temperature)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights."""
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after contrastive local training, which the client keeps, too."""
        network, last = task.network(), task.state.get(PREVIOUS)
        additions = Additions()
        if isinstance(last, ArrayRecord):
            networks = _Networks(network, task.network(), task.world.network_with(last))
            additions = Additions(forward=lambda images, _: self._forward(networks, images))
        train(network, task.data, self.local, task.rng, additions)
        records = sent(network)
        task.state[PREVIOUS] = records[MODEL]
        return records

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, which the client keeps, too, and contrastive training."""
        task.state[PREVIOUS] = task.received[MODEL]
        networks = _Networks(task.network(), task.network(), task.network())
        additions = Additions(forward=lambda images, _: self._forward(networks, images))
        return sketched(task, self.local, additions)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the mean of the clients' weights."""
        return replace(server, weights=weighted_mean(uploads))

    def _forward(self, networks: "_Networks", images: Tensor) -> tuple[Tensor, Tensor]:
        z = networks.trained.embed(images)
        with torch.no_grad():
            z_glob, z_prev = networks.glob.embed(images), networks.prev.embed(images)
        contrast = contrastive_loss(z, z_glob, z_prev, self.temperature)
        return networks.trained.classifier(z), self.mu * contrast


@final
@dataclass(frozen=True)
class _Networks:
    """The network in training, the global one, and the client's last one."""

    trained: Network
    glob: Network
    prev: Network


def contrastive_loss(z: Tensor, z_glob: Tensor, z_prev: Tensor, tau: float) -> Tensor:
    r"""Returns the mean :math:`\ell_{con}` of features ``(N, D)``; gradients reach ``z`` alone."""
    near = F.cosine_similarity(z, z_glob.detach(), dim=1)
    far = F.cosine_similarity(z, z_prev.detach(), dim=1)
    return F.softplus((far - near) / tau).mean()  # -log of the logistic function of near - far
