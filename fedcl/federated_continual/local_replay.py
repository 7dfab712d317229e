r"""Local replay: every client keeps a small memory of its own earlier experiences.

    1. A client trains the global network on its experience; every batch is extended by as
       many images of its memory. The server averages as in FedAvg.
    2. When an experience is over, each client's memory learns the client's images of it, by
       any ``method=``. Nothing of it is sent: who isn't asked to then does so before it trains
       again, with the same result.

References:
    | On Tiny Episodic Memories in Continual Learning (Chaudhry et al., 2019)
    | https://arxiv.org/abs/1902.10486

Differences from the paper: one memory a client, in federated averaging.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from flwr.app import ArrayRecord

from distill.condenser import Condenser, pixels_alone
from distill.coresets import Random
from distill.images import LabelledImages
from distill.rng import subseed
from distill.training import Additions, Recipe
from distill.work import Work
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
        self.buffer.check_hard("where clients keep their images")

    def learning(self) -> FederatedMethod:
        """Returns averaging with replay from the client's own memory."""
        return _Learning(self.rounds, self.local, self._own)

    @property
    def passes(self) -> int:
        """The epochs of all rounds."""
        return self.rounds * self.local.epochs

    def remembering(self) -> FederatedMethod:
        """Returns the round in which clients fill their memories."""
        return _Remembering(self._own)

    @property
    def budget(self) -> Budget | None:
        """Of each client's memory."""
        return self.buffer

    def held(self, task: ServerTask) -> list[Memory]:
        """Returns those of all clients, the last ones of those that weren't asked counted too."""
        return [self._full(task.world, parts) for parts in task.world.clients]

    @property
    def _own(self) -> "_Own":
        return _Own(self.method, self.buffer)

    def _full(self, world: World, parts: Sequence[LabelledImages]) -> Memory:
        """Returns a memory of the size of that which a client fills with its experiences."""
        memory = empty_memory(world, self.buffer)
        for data in parts:
            memory = memory.learn(data, Random(), world.seed)
        return memory


@final
@dataclass(frozen=True)
class _Own:
    """What fills a client's memory, which lies in its state."""

    method: Condenser
    buffer: Budget

    def held(self, task: LocalTask) -> Memory:
        empty = empty_memory(task.world, self.buffer)
        kept = task.state.get(MEMORY)
        return unpack_memory(kept, empty) if isinstance(kept, ArrayRecord) else empty

    def remembering(self, task: LocalTask, experiences: int) -> Memory:
        """Returns the memory after the client's first experiences, and keeps it."""
        memory = self.held(task)
        for index, data in _missed(memory, task, experiences):
            seed = subseed(task.world.seed, "client", task.client, "memory", index)
            memory = memory.learn(data, self.method, seed)
            task.state[MEMORY] = pack_memory(memory)
        return memory

    def sketching(self, task: LocalTask, experiences: int) -> tuple[Memory, list[Work]]:
        """Returns a memory of that size, and keeps it, with the work undone."""
        memory, work = self.held(task), list[Work]()
        for _, data in _missed(memory, task, experiences):
            work += memory.learning(data, self.method, task.world.seed)
            memory = memory.learn(data, Random(), task.world.seed)
            task.state[MEMORY] = pack_memory(memory)
        return memory, work


@final
@dataclass(frozen=True)
class _Learning(FederatedMethod):
    rounds: int
    local: Recipe
    own: _Own
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def broadcast(self, server: ServerTask) -> Records:
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        memory = self.own.remembering(task, task.experience)
        return trained(task, self.local, _replaying(memory, task))

    def sketch(self, task: LocalTask) -> Sketch:
        memory, work = self.own.sketching(task, task.experience)
        training = sketched(task, self.local, _replaying(memory, task))
        return replace(training, work=[*work, *training.work])

    def check(self, upload: Upload, server: ServerTask) -> None:
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        return replace(server, weights=weighted_mean(uploads))


@final
@dataclass(frozen=True)
class _Remembering(FederatedMethod):
    own: _Own
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = ()

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        return {}

    def local_update(self, task: LocalTask) -> Records:
        self.own.remembering(task, task.experience + 1)
        return {}

    def sketch(self, task: LocalTask) -> Sketch:
        _, work = self.own.sketching(task, task.experience + 1)
        return Sketch({}, work)

    def check(self, upload: Upload, server: ServerTask) -> None:  # noqa: ARG002
        upload.check_names()

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:  # noqa: ARG002
        return server


def _replaying(memory: Memory, task: LocalTask) -> Additions:
    return Additions(replayed=memory.data().to(task.world.device))


def _missed(
    memory: Memory, task: LocalTask, experiences: int
) -> Iterator[tuple[int, LabelledImages]]:
    """Yields those of the client's first experiences that its memory hasn't learnt.

    Classes never come back, so that one of which an image was seen was learnt with all of them.
    """
    for index, data in enumerate(task.world.clients[task.client][:experiences]):
        if not memory.seen[data.labels.cpu()].any():
            yield index, data


def empty_memory(world: World, budget: Budget) -> Memory:
    """Returns a memory of the world's images that holds nothing yet."""
    return Memory.empty(budget, world.image_shape, world.num_classes, world.normalisation)
