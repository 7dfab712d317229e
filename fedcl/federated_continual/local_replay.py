r"""Local replay: every client keeps a small memory of its own earlier experiences.

    1. A client trains the global network on its experience; every batch is extended by as
       many images of its memory. The server averages as in FedAvg.
    2. After the last round of an experience, each client's memory learns the client's images
       of it, by any ``method=``. Nothing of it is sent.

References:
    | On Tiny Episodic Memories in Continual Learning (Chaudhry et al., 2019)
    | https://arxiv.org/abs/1902.10486

Differences from the paper: one memory a client, in federated averaging.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from flwr.app import ArrayRecord

from distill.condenser import Condenser, pixels_alone
from distill.coresets import Random
from distill.rng import subseed
from distill.training import Additions, Recipe
from fedcl.federated.averaging import check_network, sketched, trained, weighted_mean
from fedcl.federated.base import (
    MEMORY,
    MODEL,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
    World,
)
from fedcl.federated_continual.base import FederatedContinualMethod
from fedcl.memory import Budget, Memory
from fedcl.wire import pack_memory, unpack_memory


@final
@dataclass(frozen=True)
class LocalReplay(FederatedContinualMethod):
    """One memory a client.

    Attributes:
        rounds: Rounds for each experience, >= 1.
        local: How a client trains in one round.
        method: Makes the small sets.
        buffer: What each client may keep.
    """

    rounds: int
    local: Recipe
    method: Condenser
    buffer: Budget

    def __post_init__(self) -> None:
        pixels_alone(self.method)
        self.buffer.check_unstaged("where clients keep their images")

    def learning(self) -> FederatedMethod:
        """Returns averaging with replay from the client's own memory."""
        return _Learning(self.rounds, self.local, self.buffer)

    def remembering(self) -> FederatedMethod:
        """Returns the round in which clients fill their memories."""
        return _Remembering(self.method, self.buffer)

    def memories(self, clients: int) -> tuple[int, Budget | None]:
        """Returns one memory for each client."""
        return clients, self.buffer


@final
@dataclass(frozen=True)
class _Learning(FederatedMethod):
    rounds: int
    local: Recipe
    buffer: Budget
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def broadcast(self, server: ServerTask) -> Records:
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        replayed = _own_memory(task, self.buffer).data().to(task.world.device)
        return trained(task, self.local, Additions(replayed=replayed))

    def sketch(self, task: LocalTask) -> Sketch:
        replayed = _own_memory(task, self.buffer).data().to(task.world.device)
        return sketched(task, self.local, Additions(replayed=replayed))

    def check(self, upload: Upload, server: ServerTask) -> None:
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        return replace(server, weights=weighted_mean(uploads))


@final
@dataclass(frozen=True)
class _Remembering(FederatedMethod):
    method: Condenser
    buffer: Budget
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = ()

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        return {}

    def local_update(self, task: LocalTask) -> Records:
        seed = subseed(task.world.seed, "client", task.client, "memory", task.experience)
        learnt = _own_memory(task, self.buffer).learn(task.data, self.method, seed)
        task.state[MEMORY] = pack_memory(learnt)
        return {}

    def sketch(self, task: LocalTask) -> Sketch:
        before = _own_memory(task, self.buffer)
        learnt = before.learn(task.data, Random(), task.world.seed)
        task.state[MEMORY] = pack_memory(learnt)
        return Sketch({}, before.learning(task.data, self.method, task.world.seed))

    def check(self, upload: Upload, server: ServerTask) -> None:  # noqa: ARG002
        upload.check_names()

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:  # noqa: ARG002
        return server


def _own_memory(task: LocalTask, budget: Budget) -> Memory:
    empty = empty_memory(task.world, budget)
    kept = task.state.get(MEMORY)
    return unpack_memory(kept, empty) if isinstance(kept, ArrayRecord) else empty


def empty_memory(world: World, budget: Budget) -> Memory:
    """Returns a memory of the world's images that holds nothing yet."""
    return Memory.empty(budget, world.image_shape, world.num_classes, world.normalisation)
