"""What a federated method is: both halves, the client's update and the server's aggregation."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol, final, runtime_checkable

import torch
from flwr.app import ArrayRecord, RecordDict
from torch import Tensor, nn

from distill.condenser import Condenser, State, Task, condense
from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, ImageShape, Network, fresh
from distill.rng import derive
from distill.synthetic import SyntheticSet
from distill.work import Work
from fedcl.wire import BadUploadError, unpack_weights

Records = Mapping[str, ArrayRecord]  # what one message carries, by the names below and others
Condense = Callable[[Condenser, Task], SyntheticSet]
MODEL, IMAGES, MEMORY = "arrays", "images", "memory"  # the first is Flower's own
FROM_REAL = "from-real"  # in an upload's metrics: 1 if its images started from real ones, else 0


@final
@dataclass(frozen=True)
class World:
    """What clients and server agree on before the first message.

    Attributes:
        clients: Normalised images of each client, in each experience: ``[client][experience]``.
        architecture: Of the network that is learnt.
        normalisation: Map between stored pixels and what networks see.
        image_shape: (C, H, W).
        num_classes: Classes of the task.
        seed: Names every random stream.
    """

    clients: Sequence[Sequence[LabelledImages]]
    architecture: Architecture
    normalisation: Normalisation
    image_shape: ImageShape
    num_classes: int
    seed: int

    @property
    def device(self) -> torch.device:
        """Where clients and server work: where the images are."""
        return self.clients[0][0].images.device

    def first_network(self) -> Network:
        """Returns the network that training starts from, the same for all."""
        rng = derive(self.seed, "global network")
        network = fresh(self.architecture, self.image_shape, self.num_classes, rng)
        return network.to(self.device)

    def network_with(self, weights: ArrayRecord) -> Network:
        """Returns a network that holds ``weights``."""
        network = self.first_network()
        unpack_weights(weights, network)
        return network


@final
@dataclass(frozen=True)
class LocalTask:
    """What one client has in one round.

    Attributes:
        world: What was agreed on.
        client: Its number, in [0, clients).
        round: 1 in the first round of the run.
        experience: Index of the stream's experience; 0 where there is no stream.
        received: Arrays that came with the message.
        state: What this client keeps between rounds; it may change it.
        notes: What it says of its upload besides, by name; it may add to it.
        condense: Makes the client's small sets.
        arriving: Says what the server will read of records with weights, which may be compressed.
    """

    world: World
    client: int
    round: int
    experience: int
    received: Records
    state: RecordDict
    notes: dict[str, int] = field(default_factory=dict)
    condense: Condense = condense
    arriving: Callable[[Records], Records] = dict

    @property
    def data(self) -> LabelledImages:
        """This client's images of this experience, normalised."""
        return self.world.clients[self.client][self.experience]

    @property
    def rng(self) -> torch.Generator:
        """The stream of this client's training in this round, from its beginning."""
        return derive(self.world.seed, "client", self.client, "round", self.round)

    def network(self) -> Network:
        """Returns a network with the weights that came."""
        return self.world.network_with(self.received[MODEL])


@final
@dataclass(frozen=True)
class ServerTask:
    """What the server has in one round.

    Attributes:
        world: What was agreed on.
        round: 1 in the first round of the run.
        experience: Index of the stream's experience; 0 where there is no stream.
        weights: The global network.
        memory: Small sets that clients uploaded, or None.
        kept: What the method keeps from round to round, its own affair; empty at first.
        members: Networks whose mean answer is the federation's; empty: the global network's.
        rejected: Why an upload of this round was set aside by a defence, by client.
        arrived: What clients read of this round's records that are compressed, by name.
    """

    world: World
    round: int
    experience: int
    weights: ArrayRecord
    memory: SyntheticSet | None
    kept: State = field(default_factory=dict)
    members: Sequence[ArrayRecord] = ()
    rejected: Mapping[int, str] = field(default_factory=dict)
    arrived: Records = field(default_factory=dict)

    def model(self) -> nn.Module:
        """Returns what answers for the federation: the global network, or the members."""
        if self.members:
            return MeanAnswer([self.world.network_with(member) for member in self.members])
        return self.world.network_with(self.weights)


@final
class MeanAnswer(nn.Module):
    """Networks as one, which puts out the logarithm of their mean probabilities."""

    def __init__(self, networks: Iterable[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Returns log-probabilities ``(N, num_classes)`` of normalised images."""
        answers = torch.stack([network(images).log_softmax(1) for network in self.networks])
        return answers.logsumexp(0) - math.log(len(self.networks))


@final
@dataclass(frozen=True)
class Upload:
    """What one client sent.

    Attributes:
        client: Its number.
        examples: Images it says it used, >= 1.
        records: Weights, a small set, or whatever the method's clients send.
        from_real: Whether its images started from real ones, as far as it says; nothing is
            decided by it.
    """

    client: int
    examples: int
    records: Records
    from_real: bool = True

    @property
    def arrays(self) -> ArrayRecord:
        """The record of the name that Flower gives to what is learnt."""
        return self.records[MODEL]

    def check_names(self, *names: str) -> None:
        """Refuses records other than those named.

        Raises:
            BadUploadError: If one lacks, or is too many.
        """
        if set(self.records) != set(names):
            raise BadUploadError(
                f"records must be {_listed(names)}, got {_listed(sorted(self.records))}"
            )


class FederatedMethod(ABC):
    """A federated method, both halves. Subclasses are final frozen dataclasses.

    Attributes:
        rounds: Rounds of the method, >= 1.
        set_by: Who makes the small sets of the server's task: ``clients``, whose uploads they are,
            or the ``server``, so that no image crosses the wire to it.
        answers_together: Whether the clients' networks answer for the federation, so that there
            is no global network for a client to go on from.
        weights_up: Whether clients send some of the ``vectors``, and not the server alone.
        keeps_state: Whether clients keep from round to round what they couldn't make again.
    """

    rounds: int
    set_by: ClassVar[Literal["clients", "server"]] = "clients"
    answers_together: ClassVar[bool] = False
    weights_up: ClassVar[bool] = True
    keeps_state: ClassVar[bool] = False

    @property
    def gives(self) -> int:
        """Networks that the tasks of its small sets give, at most; 0: they give images alone."""
        return 0

    @property
    def honest(self) -> "FederatedMethod":
        """What its honest clients do: the method itself, unless some attack."""
        return self

    @property
    @abstractmethod
    def vectors(self) -> tuple[str, ...]:
        """The records that hold weights or their kind, either way; they can be compressed."""

    @abstractmethod
    def broadcast(self, server: ServerTask) -> Records:
        """Returns what the server sends to every client of this round."""

    @abstractmethod
    def local_update(self, task: LocalTask) -> Records:
        """Returns what a client uploads after its part of the work."""

    @abstractmethod
    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses an upload that must not be used.

        Raises:
            BadUploadError: Saying which rule it breaks.
        """

    @abstractmethod
    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the server's task with new weights, a new memory, or both.

        Args:
            server: As it was when the round began.
            uploads: Those that passed the check, ordered by client, at least one. They come
                one after the other and can be gone through once, so that a mean needs no
                more memory for a thousand clients than for one.
        """


@final
@dataclass(frozen=True)
class Sketch:
    """What a client would send, and what its time would go into.

    Attributes:
        records: Of the names, shapes and types of its upload; the numbers mean nothing.
        work: What it would do, undone.
    """

    records: Records
    work: Sequence[Work]


@runtime_checkable
class Sketching(Protocol):
    """A method that can tell what its clients will send and do, so that a run can be foretold."""

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns a client's round without its work; the client's state grows as it would."""


@runtime_checkable
class Serving(Protocol):
    """A method whose server works, too."""

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns a task of the size that aggregating sketches would leave, and the work undone."""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
