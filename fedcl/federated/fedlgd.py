r"""FedLGD: clients train on small sets of their own, drawn to anchors that the server distils.

In rounds :math:`1, 1 + e, 1 + 2e, \dots`, of which there are some,

    1. client :math:`k` makes its small set :math:`S_k`, or mends the one it has, so that it has the
       mean features of the client's images under the global network :math:`w`, and keeps it;
    2. it uploads :math:`w - g_k` with :math:`g_k = \nabla_w \ell(w; S_k)`, whose mean over clients
       is :math:`w - \bar g`;
    3. the server makes or mends anchors :math:`A`, whose gradient at :math:`w` is that of
       all, :math:`\min_A D(\nabla_w \ell(w; A), \bar g)`, and sends them with the next round.

In every other round

    4. the client trains on :math:`S_k \cup A` by cross-entropy plus :math:`\lambda \ell_{con}`,
       with features :math:`z` of length one, images i of :math:`S_k` and a, p of :math:`A`,

       .. math:: \ell_{con} = - \overline{ \frac{1}{|A_{y_i}|} \sum_{p \in A_{y_i}}
           \log \frac{\exp(z_i \cdot z_p / \tau)}{\sum_a \exp(z_i \cdot z_a / \tau)} } ;

    5. the server averages the weights as FedAvg.

References:
    | Federated Virtual Learning on Heterogeneous Data with Local-global Distillation (Huang,
    | Jin, Zhao, Xu and Li, TMLR 2024), https://arxiv.org/abs/2303.02278

Differences from the paper: a client's set, which never leaves it, starts from centroids of its
images in the preset; the paper starts from noise and takes 10,000 steps. Anchors start from noise
alike for all classes, where the paper's has each class's mean and deviation, and travel as uint8.
Every batch has as many anchors as images of :math:`S_k`. Anchors reach the clients that are asked
in the round after they were made; another goes on with those that it has. Under compression with
error feedback, what a step lost is added to the weights that the client uploads next.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

from flwr.app import ArrayRecord
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import at_least, positive, whole
from distill.condenser import Condenser, Task, condense, even_counts, pixels_alone
from distill.coresets import Random
from distill.engine import Distillation
from distill.given_set import GivenSet
from distill.images import LabelledImages
from distill.networks import Network
from distill.pullback import gradient, weights_of
from distill.rng import subseed
from distill.synthetic import SyntheticSet
from distill.training import Additions, Recipe, train
from distill.work import Work, condensing, training
from fedcl.federated.averaging import check_network, sent, weighted_mean
from fedcl.federated.base import (
    IMAGES,
    MODEL,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)
from fedcl.federated.small_sets import check_without_real, without_images
from fedcl.wire import pack_images, pack_tensors, unpack_images

OWN = "own"  # the client's small set, in its state; the anchors that it got lie there as images


@final
@dataclass(frozen=True)
class FedLGD(FederatedMethod):
    r"""Federated averaging on distilled sets, local and global ones.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        method: Makes the clients' sets.
        anchors: Makes the server's, from a given step.
        ipc: Images of each class in either, >= 1.
        every: e, rounds from one distilling to the next, >= 2.
        distillings: Rounds in which sets are made or mended, >= 1.
        weight: :math:`\lambda`, >= 0.
        temperature: :math:`\tau`, > 0.
    """

    rounds: int
    local: Recipe
    method: Condenser
    anchors: Condenser
    ipc: int
    every: int
    distillings: int
    weight: float
    temperature: float
    set_by: ClassVar[Literal["clients", "server"]] = "server"
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)
    keeps_state: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        whole("ipc", self.ipc, 1)
        whole("federated.every", self.every, 2)
        whole("federated.distillings", self.distillings, 1)
        at_least("federated.weight", self.weight, 0)
        positive("federated.temperature", self.temperature)
        if self.local.cutmix > 0:
            raise ValueError(
                "training.cutmix must be 0 for fedlgd, as a mixed image has no class, got "
                f"{self.local.cutmix}"
            )
        pixels_alone(self.method)
        pixels_alone(self.anchors)
        check_without_real(self.anchors)

    @property
    def gives(self) -> int:
        """The global one, before and after a round's step, to the server's set."""
        return 2

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights, and the anchors when they are new."""
        if server.memory is None or not self._distils(server.round - 1):
            return {MODEL: server.weights}
        return {MODEL: server.weights, IMAGES: pack_images(server.memory)}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after a step on the client's set, or after contrastive training."""
        if IMAGES in task.received:
            task.state[IMAGES] = task.received[IMAGES]
        if self._distils(task.round):
            return self._distilled(task)
        return self._trained(task)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights; the client keeps random images, and what it would do with its own."""
        if IMAGES in task.received:
            task.state[IMAGES] = task.received[IMAGES]
        wanted, network = self._wanted(task), task.network()
        own = condense(Random(), wanted).data
        _keep(task, own)
        if self._distils(task.round):
            work = condensing("making small sets", self.method, wanted)
        else:
            additions = self._additions(task, network)
            work = training("local training", lambda: network, own, self.local, additions)
        return Sketch({MODEL: task.received[MODEL]}, [work])

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task with random anchors where there are new ones, and their making."""
        task = self._anchored(server, weighted_mean(uploads))
        if not self._distils(server.round):
            return server, []
        work = condensing("server distilling", self.anchors, task)
        return replace(server, memory=condense(Random(), task)), [work]

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the mean of the weights, or with anchors from their step."""
        mean = weighted_mean(uploads)
        if not self._distils(server.round):
            return replace(server, weights=mean)
        anchors = _going_on(self.anchors, server.memory)
        return replace(server, memory=condense(anchors, self._anchored(server, mean)))

    def _distils(self, number: int) -> bool:
        """Whether sets are made or mended in a round, as they are in none before the first."""
        distilling, since = divmod(number - 1, self.every)
        return since == 0 and 0 <= distilling < self.distillings

    def _anchored(self, server: ServerTask, mean: ArrayRecord) -> Task:
        """Returns what anchors are made from: the step from the weights to their mean."""
        step = [record.to_torch_state_dict() for record in (server.weights, mean)]
        seed = subseed(server.world.seed, "server distilling", server.round)
        return without_images(server.world, self.ipc, seed, step)

    def _distilled(self, task: LocalTask) -> Records:
        own, network = self._mended(task), task.network()
        weights = weights_of(network)
        slopes = gradient(network, weights, (own.images, own.labels), list(weights))
        network.load_state_dict({name: w - slopes[name] for name, w in weights.items()})
        return sent(network)

    def _trained(self, task: LocalTask) -> Records:
        own, network = _kept(task) or self._mended(task), task.network()
        train(network, own, self.local, task.rng, self._additions(task, network))
        return sent(network)

    def _additions(self, task: LocalTask, network: Network) -> Additions:
        """Returns replay of the anchors, with their contrast."""
        anchors = task.state.get(IMAGES)
        if not isinstance(anchors, ArrayRecord):  # a client that missed them learns without
            return Additions()
        return Additions(
            replayed=unpack_images(anchors, task.world.normalisation, task.world.device),
            forward=lambda images, classes: self._forward(network, images, classes),
        )

    def _mended(self, task: LocalTask) -> LabelledImages:
        """Returns the client's set, made or mended for the weights that came, and keeps it."""
        own = _kept(task)
        before = None if own is None else SyntheticSet(own, task.world.normalisation, "real")
        small = condense(_going_on(self.method, before), self._wanted(task)).data
        _keep(task, small)
        return small

    def _wanted(self, task: LocalTask) -> Task:
        world, given = task.world, [weights_of(task.network())]
        seed = subseed(world.seed, "client", task.client, "round", task.round)
        return Task(task.data, even_counts(task.data, self.ipc), world.normalisation, seed, given)

    def _forward(self, network: Network, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns logits and contrast; the first half of a batch is the client's."""
        features, half = network.embed(images), len(images) // 2
        z = F.normalize(features)
        contrast = anchored_contrast(
            (z[:half], classes[:half]), (z[half:], classes[half:]), self.temperature
        )
        return network.classifier(features), self.weight * contrast


def _keep(task: LocalTask, own: LabelledImages) -> None:
    task.state[OWN] = pack_tensors({"images": own.images, "labels": own.labels})


def _kept(task: LocalTask) -> LabelledImages | None:
    kept = task.state.get(OWN)
    if not isinstance(kept, ArrayRecord):
        return None
    own = kept.to_torch_state_dict()
    images, labels = (own[name].to(task.world.device) for name in ("images", "labels"))
    return LabelledImages(images, labels, task.world.num_classes)


def _going_on(method: Condenser, small: SyntheticSet | None) -> Condenser:
    """Returns a distilling method so that it starts from a set, where there is one."""
    if small is None or not isinstance(method, Distillation):
        return method
    return replace(method, start=GivenSet(small))


def anchored_contrast(
    own: tuple[Tensor, Tensor], anchors: tuple[Tensor, Tensor], tau: float
) -> Tensor:
    r"""Returns the mean :math:`\ell_{con}` over the images whose class has an anchor.

    Args:
        own: Features of length one ``(N, D)``, and classes ``(N,)``.
        anchors: The same, ``(A, D)`` and ``(A,)``.
        tau: :math:`\tau`.
    """
    (z, classes), (others, theirs) = own, anchors
    alike = classes.unsqueeze(1) == theirs
    logs = (z @ others.T / tau).log_softmax(1)
    means = (alike * logs).sum(1) / alike.sum(1).clamp(min=1)
    return -means.sum() / alike.any(1).sum().clamp(min=1)
