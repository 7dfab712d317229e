r"""Shared buffer: clients upload small sets, the server keeps them and sends them with the model.

    1. The server broadcasts the global network and its memory. A client trains on its
       experience; every batch is extended by as many images of that memory, which holds
       other clients' earlier classes too. The server averages as in FedAvg.
    2. After the last round of an experience each client that is asked makes a small set of it,
       by any ``method=``, and uploads it once, as uint8; who isn't asked then never does. The
       server's memory learns the union: each class keeps its share of the budget, made small
       by the same method, an image of one client worth as much as one of another.

References:
    | Towards Federated Continual Learning with exemplars condensed by clients:
    | ECoral (2024), https://arxiv.org/abs/2412.18926, is the nearest published system
    | Distilled Replay (Rosasco et al., 2021), https://arxiv.org/abs/2103.15851

Differences from the papers: no generator and no distillation of logits; the memory is
broadcast in every round, so a client that joins late needs nothing else.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import ClassVar, final

from distill.condenser import Condenser, Task, pixels_alone
from distill.coresets import Random
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
from fedcl.federated.forms import Form
from fedcl.federated.small_sets import Distilling, check_small_set, union, wanted_by
from fedcl.federated_continual.base import FederatedContinualMethod
from fedcl.memory import Budget, Memory
from fedcl.wire import pack_images, unpack_images


@final
@dataclass(frozen=True)
class SharedBuffer(FederatedContinualMethod):
    """One memory at the server.

    Attributes:
        rounds: Rounds for each experience, >= 1.
        local: How a client trains in one round.
        method: Makes the small sets, at the clients and at the server.
        buffer: What the server may keep.
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
        """Returns averaging with replay from the broadcast memory."""
        return _Learning(self.rounds, self.local)

    @property
    def passes(self) -> int:
        """The epochs of all rounds."""
        return self.rounds * self.local.epochs

    def remembering(self) -> FederatedMethod:
        """Returns the round in which clients upload small sets."""
        return _Remembering(self.method, self.buffer)

    @property
    def budget(self) -> Budget | None:
        """Of the server's memory."""
        return self.buffer

    def held(self, task: ServerTask) -> list[Memory]:
        """Returns the server's."""
        return [_held(task, self.buffer)]


@final
@dataclass(frozen=True)
class _Learning(FederatedMethod):
    rounds: int
    local: Recipe
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def broadcast(self, server: ServerTask) -> Records:
        sent = {MODEL: server.weights}
        if server.memory is not None:
            sent[MEMORY] = pack_images(server.memory)
        return sent

    def local_update(self, task: LocalTask) -> Records:
        return trained(task, self.local, self._replay(task))

    def sketch(self, task: LocalTask) -> Sketch:
        return sketched(task, self.local, self._replay(task))

    def _replay(self, task: LocalTask) -> Additions:
        if MEMORY not in task.received:
            return Additions()
        world = task.world
        replayed = unpack_images(task.received[MEMORY], world.normalisation, world.device)
        return Additions(replayed=replayed)

    def check(self, upload: Upload, server: ServerTask) -> None:
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        return replace(server, weights=weighted_mean(uploads))


@final
@dataclass(frozen=True)
class _Remembering(Distilling):
    method: Condenser
    buffer: Budget
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = ()

    @property
    def form(self) -> Form:
        return Form(self.method)

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        return {}

    def wanted(self, task: LocalTask) -> Task:
        share = self._share(task.world, task.experience)
        return wanted_by(task, share, "memory", task.experience)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        learnt, held = union(uploads, server.world, self.form).data, _held(server, self.buffer)
        memory = held.learn(learnt, Random(), server.world.seed)
        return _holding(server, memory), held.learning(learnt, self.method, server.world.seed)

    def check(self, upload: Upload, server: ServerTask) -> None:
        share = self._share(server.world, server.experience)
        check_small_set(upload, server.world, self.form, share)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        world = server.world
        seed = subseed(world.seed, "server memory", server.experience)
        learnt = union(uploads, world, self.form).data
        return _holding(server, _held(server, self.buffer).learn(learnt, self.method, seed))

    def _share(self, world: World, experience: int) -> int:
        """Returns the images that a client may send of each class of an experience."""
        classes = world.num_classes
        if self.buffer.allocation == "adaptive":
            parts = chain.from_iterable(client[: experience + 1] for client in world.clients)
            classes = len(set().union(*(part.labels.tolist() for part in parts)))
        return self.buffer.capacity(world.image_shape, world.num_classes) // classes


def _held(server: ServerTask, budget: Budget) -> Memory:
    world = server.world
    empty = Memory.empty(budget, world.image_shape, world.num_classes, world.normalisation)
    return empty.restored(server.kept) if server.kept else empty


def _holding(server: ServerTask, memory: Memory) -> ServerTask:
    """Returns the server with a memory: the images to send, and what its store keeps."""
    return replace(server, memory=memory.as_set().to(server.world.device), kept=memory.state())
