r"""DOSFL: clients upload training steps for one first network; the server takes them in turn.

All know the first network :math:`\theta` by the seed. Client :math:`k` has images
:math:`x^k_t`, soft labels :math:`y^k_t` and a step size :math:`\alpha^k_t` for each of
:math:`T` steps, and

    1. learns them so that the steps from :math:`\theta_0 \sim N(\theta, \sigma^2 I)`, a share of
       them left out at random, end where its own images are told apart, and uploads them, once;
    2. the server checks them and goes from :math:`\theta` through all of them, once, with the
       clients taking turns: step 0 of every client, step 1 of every client, and so on,

       .. math:: \theta \leftarrow \theta - \alpha^k_t \nabla_\theta \ell(\theta; x^k_t, y^k_t) .

References:
    | Distilled One-Shot Federated Learning (Zhou, Pu, Ma, Li and Wu, 2020)
    | https://arxiv.org/abs/2009.07999

Differences from the paper: images travel as uint8, so that pixels stay within what real images
have, and labels as float16; a step has images of each class that its client has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

import numpy as np
from flwr.app import Array, ArrayRecord
from torch import Tensor
from torch.nn.functional import one_hot

from distill.checks import positive, whole
from distill.condenser import Condenser, Task, condense, even_counts, pixels_alone
from distill.coresets import Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.labels import HardLabels
from distill.networks import Network
from distill.objectives.unrolled import Unrolled, in_order
from distill.pullback import Weights, gradient, weights_of
from distill.rng import subseed
from distill.synthetic import Origin, SyntheticSet
from distill.work import condensing
from fedcl.federated.base import (
    FROM_REAL,
    IMAGES,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
    World,
)
from fedcl.wire import (
    BadUploadError,
    array_of,
    check_array,
    check_distributions,
    check_images,
    pack_distributions,
    pack_images,
    pack_weights,
    unpack_distributions,
    unpack_images,
)

STEPS = "steps"


@final
@dataclass(frozen=True)
class DOSFL(FederatedMethod):
    r"""One upload of distilled steps.

    Attributes:
        method: Learns the steps, which it unrolls, in their order and without momentum.
        ipc: Images per class and client, >= 1; fewer where a client has fewer real ones.
        largest: :math:`\alpha^k_t` that a client sends and the server takes at most, > 0.
        rounds: One.
    """

    method: Condenser
    ipc: int
    largest: float
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        whole("ipc", self.ipc, 1)
        positive("federated.largest", self.largest)
        pixels_alone(self.method)
        _, how = self._unrolled()
        if how.batch is not None and self.ipc > how.batch * how.inner_steps:
            raise ValueError(
                f"ipc must be <= {how.batch * how.inner_steps}, the images of a class that "
                f"{how.inner_steps} steps of {how.batch} take, got {self.ipc}; raise "
                "objective.inner_steps"
            )

    @property
    def gives(self) -> int:
        """The first one."""
        return 1

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        """Returns nothing: the first network comes from the seed."""
        return {}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the client's images, with their labels and the sizes of the steps."""
        small = condense(self.method, self._wanted(task))
        labels = small.data.targets
        if labels is None:
            raise RuntimeError("steps must have soft labels, which the method was checked for")
        return self._sent(task, small, labels, small.rates)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns as many random images and steps, and the learning of them."""
        wanted, (method, _) = self._wanted(task), self._unrolled()
        small = condense(Random(), wanted)
        labels = one_hot(small.data.labels, task.world.num_classes).float()
        records = self._sent(task, small, labels, [self.largest] * method.rate_count)
        return Sketch(records, [condensing("learning steps", method, wanted)])

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses wrong images, labels that are no distributions, and sizes out of range."""
        upload.check_names(IMAGES, STEPS)
        world, record = server.world, upload.records[STEPS]
        check_images(upload.records[IMAGES], world.image_shape, world.num_classes, self.ipc)
        if set(record) != {"labels", "sizes"}:
            raise BadUploadError(f"arrays must be labels, sizes, got {', '.join(record)}")
        images = len(array_of(upload.records[IMAGES], "images"))
        check_distributions(record, "labels", images, world.num_classes)
        sizes = check_array(record, "sizes", "float32", (self._unrolled()[0].rate_count,))
        if sizes.min() <= 0 or sizes.max() > self.largest:
            raise BadUploadError(
                f"sizes must be in (0, {self.largest}], got {sizes.min():g} to {sizes.max():g}"
            )

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the union, and with the first network after everybody's steps."""
        world, network, (_, how) = server.world, server.world.first_network(), self._unrolled()
        sequences = [_Sequence(upload, world) for upload in uploads]
        weights: Weights = weights_of(network)
        for step in range(how.inner_steps):
            for sequence in sequences:
                weights = sequence.after(step, network, weights, how.batch)
        network.load_state_dict(weights)
        union = LabelledImages.union([sequence.data for sequence in sequences])
        origin: Origin = "real" if any(sequence.from_real for sequence in sequences) else "noise"
        memory = SyntheticSet(union, world.normalisation, origin)
        return replace(server, weights=pack_weights(network), memory=memory)

    def _wanted(self, task: LocalTask) -> Task:
        world, counts = task.world, even_counts(task.data, self.ipc)
        seed = subseed(world.seed, "client", task.client)
        return Task(
            task.data, counts, world.normalisation, seed, [weights_of(world.first_network())]
        )

    def _sent(
        self, task: LocalTask, small: SyntheticSet, labels: Tensor, sizes: Sequence[float]
    ) -> Records:
        """Returns images, labels and sizes of steps as they are sent, where they are from noted."""
        task.notes[FROM_REAL] = int(small.origin == "real")
        cut = np.array(sizes, np.float32).clip(max=self.largest)
        steps = {"labels": pack_distributions(labels), "sizes": Array(cut)}
        return {IMAGES: pack_images(small), STEPS: ArrayRecord(steps)}

    def _unrolled(self) -> tuple[Distillation, Unrolled]:
        method = self.method
        if (
            not isinstance(method, Distillation)
            or not isinstance(method.objective, Unrolled)
            or not method.objective.ordered
            or method.objective.momentum > 0
            or method.rate is None
            or isinstance(method.labels, HardLabels)
        ):
            raise ValueError(
                "method must learn ordered steps without momentum, their sizes and soft labels "
                "for dosfl; take method=dd labels=soft"
            )
        return method, method.objective


@final
class _Sequence:
    """The steps of one client."""

    def __init__(self, upload: Upload, world: World) -> None:
        data = unpack_images(upload.records[IMAGES], world.normalisation, world.device)
        steps = upload.records[STEPS]
        self.labels = unpack_distributions(steps["labels"]).to(world.device)
        self.data = replace(data, targets=self.labels)
        self.sizes = steps["sizes"].numpy()
        self.from_real = upload.from_real
        classes = data.counts.nonzero().flatten()
        self._by_class = [(data.labels == label).nonzero().flatten() for label in classes]

    def after(
        self, step: int, network: Network, weights: Weights, batch: int | None
    ) -> dict[str, Tensor]:
        """Returns the weights after one step."""
        rows = in_order(self._by_class, step, batch or len(self.data))
        slopes = gradient(
            network, weights, (self.data.images[rows], self.labels[rows]), list(weights)
        )
        size = float(self.sizes[step % len(self.sizes)])
        return {name: w - size * slopes[name] for name, w in weights.items()}
