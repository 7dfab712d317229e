r"""FedAF: clients condense together, and the server trains on their sets: weights never go up.

In round :math:`r`, from the global weights :math:`w` and each class's mean logits :math:`V_c`,

    1. client :math:`k` takes the mean logits of its images of each class, and their mean
       probabilities at the temperature :math:`\tau`,

       .. math:: V_{kc} = \overline{z_w(D_{kc})} , \qquad
           R_{kc} = \overline{\mathrm{softmax}(z_w(D_{kc}) / \tau)} ;

    2. it makes :math:`S_k`, whose mean features are those of its images under networks
       :math:`\gamma w + (1 - \gamma) \tilde w`, and whose logits lie near the others' by
       :math:`\lambda_{loc}` times the sliced Wasserstein distance from :math:`V_c`, and uploads
       :math:`S_k, V_{kc}, R_{kc}`;
    3. the server takes means over the clients that have the class, :math:`V_c` for the next
       round and :math:`R_c`, and trains from :math:`w` on :math:`\bigcup_k S_k` by cross-entropy
       plus

       .. math:: \frac{\lambda_{glob}}{2} \sum_c
           \mathrm{KL}(R_c \| T_c) + \mathrm{KL}(T_c \| R_c) ,

       :math:`T_c` being the mean probabilities, at :math:`\tau`, of the set's images of class c.

References:
    | An Aggregation-Free Federated Learning for Tackling Data Heterogeneity (Wang, Fu,
    | Kanagavelu, Wei, Liu and Goh, CVPR 2024), https://arxiv.org/abs/2404.18962

Differences from the paper: sets travel as uint8, logits and probabilities as float16. :math:`V_c`
is the last round's, so that a round is one exchange; the first has none. :math:`T_c` is of a
batch's images, as a step sees no more, and the sum over the batch's classes is a mean.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from distill.checks import at_least, positive, whole
from distill.condenser import Condenser, Task, pixels_alone
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.networks import Network
from distill.objectives.distribution import class_means, embedded
from distill.objectives.matching import Matching
from distill.objectives.near_given_logits import NearGivenLogits
from distill.pullback import weights_of
from distill.real import ClassBatch
from distill.rng import derive
from distill.training import Additions, Recipe, train
from distill.work import Work, condensing, training
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
from fedcl.federated.forms import Form
from fedcl.federated.small_sets import noted, union, wanted_by
from fedcl.wire import (
    BadUploadError,
    array_of,
    check_array,
    check_distributions,
    check_images,
    pack_distributions,
    pack_tensors,
    pack_weights,
)

KNOWLEDGE = "knowledge"
LEAST = 1e-6  # of a probability whose logarithm is taken: float16 rounds smaller ones to zero


@final
@dataclass(frozen=True)
class FedAF(FederatedMethod):
    r"""Federated learning without aggregation.

    Attributes:
        rounds: Rounds of communication, >= 1.
        method: Makes the small sets by matching a statistic.
        ipc: Images per class, client and round, >= 1; fewer where a client has fewer real ones.
        server: How the server trains on the union in one round.
        local_weight: :math:`\lambda_{loc}`, >= 0.
        global_weight: :math:`\lambda_{glob}`, >= 0.
        temperature: :math:`\tau`, > 0.
    """

    rounds: int
    method: Condenser
    ipc: int
    server: Recipe
    local_weight: float
    global_weight: float
    temperature: float
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)
    weights_up: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        whole("ipc", self.ipc, 1)
        at_least("federated.local_weight", self.local_weight, 0)
        at_least("federated.global_weight", self.global_weight, 0)
        positive("federated.temperature", self.temperature)
        if self.server.cutmix > 0:
            raise ValueError(
                "evaluation.recipe.cutmix must be 0 for fedaf, as a mixed image has no class, got "
                f"{self.server.cutmix}"
            )
        pixels_alone(self.method)
        self._near({})

    @property
    def gives(self) -> int:
        """The global one."""
        return 1

    @property
    def form(self) -> Form:
        """Pixels alone."""
        return Form(self.method)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights, and the mean logits of classes once there are any."""
        if not server.kept:
            return {MODEL: server.weights}
        return {MODEL: server.weights, KNOWLEDGE: pack_tensors(server.kept)}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the client's small set of this round, and what it knows of its classes."""
        small = task.condense(self._near(_received(task)), self._wanted(task))
        return {**noted(task, small, self.form), KNOWLEDGE: self._known(task.network(), task.data)}

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns as many images, what the first network knows, and the making of the set."""
        method, wanted = self._near(_received(task)), self._wanted(task)
        known = self._known(task.world.first_network(), task.data)
        records = {**noted(task, self.form.sketch(wanted), self.form), KNOWLEDGE: known}
        return Sketch(records, [condensing("making small sets", method, wanted)])

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses all but a small set, and finite logits and distributions of its classes."""
        upload.check_names(IMAGES, KNOWLEDGE)
        world, record = server.world, upload.records[KNOWLEDGE]
        check_images(upload.records[IMAGES], world.image_shape, world.num_classes, self.ipc)
        if set(record) != {"logits", "labels"}:
            raise BadUploadError(f"arrays must be logits, labels, got {', '.join(record)}")
        classes = int((array_of(upload.records[IMAGES], "counts") > 0).sum())
        check_array(record, "logits", "float16", (classes, world.num_classes))
        check_distributions(record, "labels", classes, world.num_classes)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task with the next mean logits, and the training, without its matching."""
        sent, first = list(uploads), server.world.first_network
        work = training(
            "server training", first, union(sent, server.world, self.form).data, self.server
        )
        return replace(server, kept=_next_logits(sent)), [work]

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the union, weights trained on it, and the next mean logits."""
        world, sent = server.world, list(uploads)
        memory, network = union(sent, world, self.form), world.network_with(server.weights)
        means = means_over_clients(sent, "labels")
        known = {label: row.to(world.device) for label, row in means.items()}

        def forward(images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
            logits = network(images)
            gap = knowledge_gap(logits / self.temperature, classes, known)
            return logits, self.global_weight * gap

        rng = derive(world.seed, "server training", server.round)
        train(network, memory.data, self.server, rng, Additions(forward=forward))
        kept = _next_logits(sent)
        return replace(server, weights=pack_weights(network), memory=memory, kept=kept)

    def _wanted(self, task: LocalTask) -> Task:
        given = [weights_of(task.network())]
        return wanted_by(task, self.ipc, "round", task.round, given=given)

    def _known(self, network: Network, data: LabelledImages) -> ArrayRecord:
        logits, labels = knowledge(network, data, self.temperature)
        rows = {"logits": Array(logits.half().cpu().numpy()), "labels": pack_distributions(labels)}
        return ArrayRecord(rows)

    def _near(self, means: Mapping[int, Tensor]) -> Condenser:
        """Returns the method with a bond to the mean logits of some classes."""
        method = self.method
        if not isinstance(method, Distillation) or not isinstance(method.objective, Matching):
            raise ValueError("method must match a statistic for fedaf; take method=dm")
        statistic = NearGivenLogits(method.objective.statistic, means, self.local_weight)
        return replace(method, objective=replace(method.objective, statistic=statistic))


def _received(task: LocalTask) -> dict[int, Tensor]:
    if KNOWLEDGE not in task.received:
        return {}
    came = task.received[KNOWLEDGE].to_torch_state_dict()
    rows = came["logits"].float().to(task.world.device)
    return dict(zip(came["classes"].tolist(), rows, strict=True))


def _next_logits(sent: Sequence[Upload]) -> dict[str, Tensor]:
    """Returns the mean logits of the next round, as the server keeps and sends them."""
    logits = means_over_clients(sent, "logits")
    rows = torch.stack([*logits.values()]).half()
    return {"classes": torch.tensor(list(logits)), "logits": rows}


@torch.no_grad()
def knowledge(network: Network, data: LabelledImages, temperature: float) -> tuple[Tensor, Tensor]:
    r"""Returns :math:`V_{kc}` and :math:`R_{kc}`, ``(K, C)`` each, of the K classes in the data."""
    batch = _grouped(data.images, data.labels)
    logits = network.classifier(embedded(network, data.images))
    return class_means(logits, batch), class_means((logits / temperature).softmax(1), batch)


def means_over_clients(uploads: Sequence[Upload], name: str) -> dict[int, Tensor]:
    """Returns the mean of checked rows of knowledge over the clients that have the class.

    Args:
        uploads: Of all clients, at least one.
        name: ``logits`` or ``labels``.
    """
    rows = defaultdict[int, list[Tensor]](list)
    for upload in uploads:
        classes = upload.records[IMAGES]["counts"].numpy().nonzero()[0].tolist()
        sent = torch.from_numpy(upload.records[KNOWLEDGE][name].numpy().astype(np.float32))
        for label, row in zip(classes, sent, strict=True):
            rows[label].append(row)
    return {label: torch.stack(rows[label]).mean(0) for label in sorted(rows)}


def knowledge_gap(logits: Tensor, classes: Tensor, known: Mapping[int, Tensor]) -> Tensor:
    r"""Returns the mean over the batch's classes of the symmetric divergence of R from T.

    That is :math:`\frac12 \sum_j (R_{cj} - T_{cj}) (\log R_{cj} - \log T_{cj})` for a class.

    Args:
        logits: Over the temperature, ``(N, C)``; the gradient reaches them.
        classes: Of the images, ``(N,)``.
        known: R by class.
    """
    batch = _grouped(logits, classes)
    T = class_means(logits.softmax(1), batch)
    R = torch.stack([known[label] for label in batch.labels.tolist()])
    logs = R.clamp(min=LEAST).log() - T.clamp(min=LEAST).log()
    return ((R - T) * logs).sum(1).mean() / 2


def _grouped(images: Tensor, classes: Tensor) -> ClassBatch:
    present = torch.bincount(classes).nonzero().flatten()
    return ClassBatch(images, torch.searchsorted(present, classes), present)
