"""A rehearsal: the rounds of a federation with every message, and none of the work.

Methods say what an upload looks like; grid, strategy and compression are those of the run, so
the bytes are those that it will send, as long as no client fails.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from flwr.app import ArrayRecord

from distill.rng import derive
from distill.work import Work
from fedcl.federated.base import (
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Serving,
    Sketching,
    Upload,
    World,
)
from fedcl.federated.channel import Channel
from fedcl.federated.simulation import RoundReport, Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import pack_tensors

ENOUGH = 200_000_000  # bytes; once they are sent, a round stands for all later ones of its kind
TWICE = 2  # the first message differs from all later ones

Kind = tuple[int, str]  # experience and action
Times = tuple[Work, int]


class Round(NamedTuple):
    """One of a schedule: its number, >= 1, its experience's index, and what the clients do."""

    number: int
    experience: int
    action: str


class UnknownError(ValueError):
    """Something that can't be told before the run."""


@final
@dataclass(frozen=True)
class Rehearsal:
    """What a run will send, and what it will do.

    Attributes:
        reports: One for each round of the schedule.
        played: Rounds that were played; the last one of its kind stands for each other.
        work: Of clients and server, undone, and how often the run does its like.
        simulation: The federation as it is after the rounds.
    """

    reports: Sequence[RoundReport]
    played: int
    work: Sequence[Times]
    simulation: Simulation


@final
class Rehearsed(FederatedMethod):
    """A method that sends what another one would, and does not work.

    Attributes:
        local: What clients would have done in the last round.
        served: What the server would have.
    """

    def __init__(self, method: FederatedMethod) -> None:
        if not isinstance(method, Sketching):
            raise UnknownError(f"{type(method).__name__} does not sketch its uploads")
        self.method, self.sketching, self.rounds = method, method, method.rounds
        self.local, self.served = list[Work](), list[Work]()

    @property
    def vectors(self) -> tuple[str, ...]:
        """Those of the other one."""
        return self.method.vectors

    def broadcast(self, server: ServerTask) -> Records:
        """Returns what the other one sends; in the first round all is as it was at first."""
        self.local, self.served = [], []
        sent = self.method.broadcast(server)
        return sent if server.round == 1 else self._moved(sent, "server", server.round)

    def local_update(self, task: LocalTask) -> Records:
        """Returns the sketch of an upload."""
        sketch = self.sketching.sketch(task)
        self.local += sketch.work
        return self._moved(sketch.records, "client", task.client, task.round)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses what the other one refuses."""
        self.method.check(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns a task of the size that the other one's would have."""
        if not isinstance(self.method, Serving):
            deque(uploads, maxlen=0)  # each is checked when it is asked for
            return server
        task, self.served = self.method.serve(server, uploads)
        return task

    def _moved(self, records: Records, *names: str | int) -> Records:
        """Returns noise for weights: what is equal, as zeros are, travels once in a message."""
        return {
            name: _noise(record, derive(0, name, *names)) if name in self.vectors else record
            for name, record in records.items()
        }


def rehearse(
    methods: Mapping[str, FederatedMethod],
    world: World,
    rules: Rules,
    channel: Channel,
    schedule: Sequence[Round],
) -> Rehearsal:
    """Plays the rounds of a schedule until ENOUGH bytes are sent.

    Args:
        methods: By action.
        world: What was agreed on, with the clients' images.
        rules: Who takes part.
        channel: What both sides compress.
        schedule: All rounds, in their order.

    Raises:
        UnknownError: If a method doesn't sketch its uploads.
    """
    doubles = {action: Rehearsed(method) for action, method in methods.items()}
    simulation = Simulation(doubles, world, rules, channel)
    of_a_kind, played, sent = Counter(r[1:] for r in schedule), Counter[Kind](), 0
    latest, reports, work = dict[Kind, RoundReport](), list[RoundReport](), list[Times]()
    for number, experience, action in schedule:
        double, kind = doubles[action], (experience, action)
        if played[kind] < TWICE or sent < ENOUGH:
            latest[kind] = simulation.play(action, number, experience)
            sent += latest[kind].totals["bytes_up"] + latest[kind].totals["bytes_down"]
            if kind not in played:
                work += [(local, of_a_kind[kind]) for local in double.local]
            played[kind] += 1
        work += [(served, 1) for served in double.served]
        reports.append(latest[kind])
    return Rehearsal(reports, played.total(), work, simulation)


def _noise(like: ArrayRecord, rng: torch.Generator) -> ArrayRecord:
    tensors = like.to_torch_state_dict().items()
    return pack_tensors({name: torch.randn(t.shape, generator=rng) for name, t in tensors})
