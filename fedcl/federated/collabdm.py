r"""CollabDM: clients upload class means of features; the server distils from their sum.

    1. All make the same :math:`T` random networks :math:`\psi_t` from the shared seed.
    2. Client :math:`k` uploads, once, how many images :math:`n_{kc}` it has of each class and
       their mean features :math:`\mu_{ktc}`.
    3. The server knows the means of all images,
       :math:`\mu_{tc} = \sum_k n_{kc} \mu_{ktc} / \sum_k n_{kc}`, matches them with a small set,
       and trains a fresh network on that.

The server needs sums over clients alone, so secure aggregation could hide each summand.

References:
    | One-Shot Collaborative Data Distillation (Holland, Thapa, Siddiqui, Shao and Camtepe, ECAI
    | 2024), https://arxiv.org/abs/2408.02266

Differences from the paper: the networks are few, and each serves many steps; means travel as
float16; no augmentation, as it would take means of its own.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from distill.checks import whole
from distill.condenser import Condenser, Task, condense, pixels_alone
from distill.coresets import Random
from distill.engine import Distillation
from distill.networks import Architecture
from distill.objectives.given_means import GivenMeans, SharedNetworks, means_of
from distill.rng import derive, subseed
from distill.training import Recipe, train
from distill.work import Work, condensing, training
from fedcl.federated.base import (
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
    World,
)
from fedcl.federated.small_sets import check_without_real, without_images
from fedcl.wire import BadUploadError, array_of, pack_weights

MEANS = "means"


@final
@dataclass(frozen=True)
class CollabDM(FederatedMethod):
    """Collaborative distribution matching.

    Attributes:
        method: Makes the small set at the server; its objective gives way to the means.
        architecture: Of the networks that features are of.
        networks: T, >= 1; an upload grows with them.
        ipc: Images per class of the server's set, >= 1.
        server: How the server trains on the set.
        rounds: One.
    """

    method: Condenser
    architecture: Architecture
    networks: int
    ipc: int
    server: Recipe
    rounds: int = field(default=1, init=False)
    set_by: ClassVar[Literal["clients", "server"]] = "server"
    vectors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        whole("federated.networks", self.networks, 1)
        whole("ipc", self.ipc, 1)
        pixels_alone(self.method)
        check_without_real(self.method)
        self._distillation()

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        """Returns nothing: networks come from the seed."""
        return {}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the mean features of each class that the client has, and its images of each."""
        data = task.data
        rows = ((data.counts > 0).cumsum(0) - 1).to(data.labels.device)  # of the classes there are
        shared, classes = self._shared(task.world), task.world.num_classes
        return _packed(means_of(shared, data.images, rows[data.labels], classes), data.counts)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns means of nothing, and the way of the images through the networks."""
        data, world, shared = task.data, task.world, self._shared(task.world)

        def do(images: int) -> int:
            means_of(shared, data.images[:images], 0 * data.labels[:images], world.num_classes)
            return len(data)

        means = torch.zeros(self.networks, int((data.counts > 0).sum()), self._features(world))
        return Sketch(_packed(means, data.counts), [Work("means of features", len(data), do)])

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses all but finite means of the classes that the counts name."""
        upload.check_names(MEANS)
        record, world = upload.records[MEANS], server.world
        if set(record) != {"means", "counts"}:
            raise BadUploadError(f"arrays must be means, counts, got {', '.join(record)}")
        means, counts = array_of(record, "means"), array_of(record, "counts")
        if (
            counts.dtype != np.int32
            or counts.shape != (world.num_classes,)
            or counts.min() < 0
            or counts.sum() != upload.examples
        ):
            raise BadUploadError(
                f"counts must be int32 of shape ({world.num_classes},), >= 0 and "
                f"{upload.examples} in all, got {counts.dtype} {counts.tolist()}"
            )
        wanted = (self.networks, int((counts > 0).sum()), self._features(world))
        if means.dtype != np.float16 or means.shape != wanted or not np.isfinite(means).all():
            raise BadUploadError(
                f"means must be finite float16 of shape {wanted}, got {means.dtype} of shape "
                f"{means.shape}"
            )

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task as it is, and distilling and training."""
        method, task = self._matching(server, uploads)
        network, data = server.world.first_network, condense(Random(), task).data
        distilling = condensing("server distilling", method, task)
        return server, [distilling, training("server training", network, data, self.server)]

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the server's set, and with weights trained on it from scratch."""
        world = server.world
        memory, network = condense(*self._matching(server, uploads)), world.first_network()
        train(network, memory.data, self.server, derive(world.seed, "server training"))
        return replace(server, weights=pack_weights(network), memory=memory)

    def _matching(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[Condenser, Task]:
        """Returns what makes the server's set, and out of what."""
        world = server.world
        sums, counts = self._summed(uploads, world)
        present = counts > 0
        means = (sums[:, present] / counts[present].unsqueeze(1)).float().to(world.device)
        objective = GivenMeans(self._shared(world), means)
        task = without_images(world, self.ipc, subseed(world.seed, "server distilling"))
        task = replace(task, counts=task.counts * present)
        return replace(self._distillation(), objective=objective), task

    def _summed(self, uploads: Iterable[Upload], world: World) -> tuple[Tensor, Tensor]:
        """Returns the sums of features, float64 ``(T, C, D)``, and the images of each class."""
        sums: Tensor | float = 0.0
        total = torch.zeros(world.num_classes, dtype=torch.int64)
        for upload in uploads:
            record = upload.records[MEANS]
            counts = torch.from_numpy(record["counts"].numpy().astype(np.int64))
            means = torch.from_numpy(record["means"].numpy().astype(np.float64))
            classes = counts.nonzero().flatten()
            spread = torch.zeros(len(means), world.num_classes, means.shape[2], dtype=torch.float64)
            spread[:, classes] = means * counts[classes].unsqueeze(1)
            sums, total = sums + spread, total + counts
        return torch.as_tensor(sums), total

    def _features(self, world: World) -> int:
        return self._shared(world).network(0, world.image_shape, 1).classifier.in_features

    def _shared(self, world: World) -> SharedNetworks:
        return SharedNetworks(self.architecture, self.networks, world.seed)

    def _distillation(self) -> Distillation:
        if not isinstance(self.method, Distillation):
            raise ValueError(
                "method must be a distilling one for collabdm, whose server has no image to "
                "choose; take method=dm"
            )
        return self.method


def _packed(means: Tensor, counts: Tensor) -> Records:
    arrays = {"means": means.half().cpu(), "counts": counts.to(torch.int32)}
    return {MEANS: ArrayRecord({name: Array(tensor.numpy()) for name, tensor in arrays.items()})}
