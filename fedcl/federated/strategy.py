"""The one adapter to Flower's Strategy: asks clients, checks what comes, counts what fails."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, final

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from distill.checks import fraction
from distill.rng import derive
from fedcl.federated.availability import ALWAYS, Availability, drawn
from fedcl.federated.base import FROM_REAL, FederatedMethod, ServerTask, Upload
from fedcl.federated.channel import ServerEnd
from fedcl.federated.grid import Exchange
from fedcl.federated.link import Link
from fedcl.wire import BadUploadError, Packet

logger = logging.getLogger(__name__)


class RoundFailedError(RuntimeError):
    """Too few clients completed a round.

    Attributes:
        clients: What each client that was asked cost, as in a round's report.
    """

    clients: Sequence[Mapping[str, Any]] = ()


@final
@dataclass(frozen=True)
class Rules:
    """Who takes part, how long it takes them, and how many must complete.

    Attributes:
        participation: Share of the clients asked in a round, in (0, 1]; at least one.
        min_completion: Share of the asked clients whose upload must be accepted, in [0, 1]; one
            at least.
        availability: Who can be asked, and who drops out.
        link: What a round costs in simulated seconds; None: time isn't simulated.
    """

    participation: float
    min_completion: float
    availability: Availability = ALWAYS
    link: Link | None = None

    def __post_init__(self) -> None:
        fraction("participation", self.participation)
        fraction("min_completion", self.min_completion)
        if self.participation == 0:
            raise ValueError("participation must be > 0, got 0")

    def asked(self, there: int) -> int:
        """Returns how many of the clients that are there are asked in a round."""
        return max(1, round(self.participation * there))


@final
@dataclass
class MethodStrategy(Strategy):
    """Runs a method's server half.

    Clients are chosen by number, from a stream of the round, and never by node: a node is a
    worker, and its random id must not decide anything.

    Attributes:
        method: The method.
        action: What its messages ask for.
        rules: Who takes part.
        task: What the server has; replaced by every aggregation.
        end: The server's end of what is compressed.
        asked: Client by node, in the last round.
        failures: Reason by client, in the last round.
        exchanges: Where the grid notes all messages; those to clients that drop out are added.
    """

    method: FederatedMethod
    action: str
    rules: Rules
    task: ServerTask
    end: ServerEnd
    asked: dict[int, int] = field(default_factory=dict)
    failures: dict[int, str] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)

    def summary(self) -> None:
        """Logs what is run."""
        logger.info("%s, %d clients", type(self.method).__name__, len(self.task.world.clients))

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Returns a message to each client of the round that is to get it, ordered by client."""
        del arrays, config  # the server's task holds both
        nodes = sorted(grid.get_node_ids())
        self.asked = {nodes[client]: client for client in self._chosen(server_round)}
        self.failures = dict.fromkeys(self.asked.values(), "no reply")
        self.end.begin(self.method.broadcast(self.task), server_round)
        return list(self._delivered(server_round))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Checks the replies and aggregates those that pass.

        Raises:
            RoundFailedError: If fewer than ``min_completion`` of the asked clients pass, or a
                defence sets all of them aside.
        """
        uploads = self._accepted(replies)
        first = next(uploads, None)
        task = self.task
        if first is not None:
            begun = replace(self.task, arrived=self.end.arrived())
            task = replace(self.method.aggregate(begun, chain([first], uploads)), arrived={})
        for _ in uploads:  # a method that reads no upload: its clients work all the same
            pass
        self._check_completion(server_round, task.rejected)
        self.end.end(client for client in self.asked.values() if client not in self.failures)
        self.task = task
        return self.task.weights, MetricRecord({"failures": len(self.failures)})

    def configure_evaluate(
        self,
        server_round: int,  # noqa: ARG002
        arrays: ArrayRecord,  # noqa: ARG002
        config: ConfigRecord,  # noqa: ARG002
        grid: Grid,  # noqa: ARG002
    ) -> Sequence[Message]:
        """Returns nothing: the server scores the global network on its own test images."""
        return []

    def aggregate_evaluate(
        self,
        server_round: int,  # noqa: ARG002
        replies: Iterable[Message],  # noqa: ARG002
    ) -> MetricRecord | None:
        """Returns nothing, as no client is asked."""
        return None

    def seconds(self, exchange: Exchange) -> float | None:
        """Returns a client's simulated seconds; None without a link, or without an answer."""
        link, world, client = self.rules.link, self.task.world, self.asked[exchange.node]
        if link is None:
            return None
        images = len(world.clients[client][self.task.experience])
        return link.seconds(exchange, images, client in link.slow(len(world.clients), world.seed))

    def _chosen(self, server_round: int) -> list[int]:
        world = self.task.world
        there = self.rules.availability.joined(len(world.clients), server_round, world.seed)
        rng = derive(world.seed, "participants", server_round)
        return drawn(there, self.rules.asked(len(there)), rng)

    def _delivered(self, server_round: int) -> Iterator[Message]:
        """Yields the messages but for those to clients that drop out, which are only counted."""
        for node, client in self.asked.items():
            message = self._message(node, client, server_round)
            if self.rules.availability.drops(client, server_round, self.task.world.seed):
                self.failures[client] = "dropped out"
                self.exchanges.append(Exchange.unanswered(node, Packet(message)))
            else:
                yield message

    def _message(self, node: int, client: int, server_round: int) -> Message:
        config = {"client": client, "round": server_round, "experience": self.task.experience}
        return Message(
            RecordDict({**self.end.sent(client), "config": ConfigRecord({**config})}),
            dst_node_id=node,
            message_type=f"train.{self.action}",
        )

    def _accepted(self, replies: Iterable[Message]) -> Iterator[Upload]:
        """Yields what passes, ordered by client, and counts what fails."""
        if isinstance(replies, Sequence):  # a list, in any order; an in-process grid keeps it
            replies = sorted(replies, key=lambda r: self.asked.get(r.metadata.src_node_id, -1))
        for reply in replies:
            upload = self._checked(reply)
            if upload is not None:
                yield upload

    def _check_completion(self, server_round: int, rejected: Mapping[int, str]) -> None:
        for client, why in sorted(self.failures.items()):
            logger.warning("round %d: client %d: %s", server_round, client, why)
        completed = len(self.asked) - len(self.failures)
        wanted = self.rules.min_completion * len(self.asked) - 1e-9  # 0.56 of 25 are 14
        if completed < max(1.0, wanted):
            raise RoundFailedError(
                f"min_completion must be reached, got {completed} of {len(self.asked)} clients "
                f"in round {server_round}: {by_reason(self.failures)}"
            )
        if len(rejected) == completed:
            self.task = replace(self.task, rejected=rejected)
            raise RoundFailedError(f"defence must leave a client, got none: {by_reason(rejected)}")

    def _checked(self, reply: Message) -> Upload | None:
        client = self.asked.get(reply.metadata.src_node_id)
        if client is None:
            logger.warning("a reply from a node that was not asked is ignored")
            return None
        try:
            self._check_time(reply)
            own = self.task.world.clients[client][self.task.experience]
            upload = _upload(reply, client, len(own))
            upload = replace(upload, records=self.end.received(upload.records))
            self.method.check(upload, self.task)
        except BadUploadError as error:
            self.failures[client] = str(error)
            return None
        del self.failures[client]
        return upload

    def _check_time(self, reply: Message) -> None:
        if self.rules.link is not None:
            node = reply.metadata.src_node_id
            exchange = next(e for e in reversed(self.exchanges) if e.node == node)
            self.rules.link.check(self.seconds(exchange))


def by_reason(reasons: Mapping[int, str]) -> str:
    """Returns reasons by client as text, each reason once.

    >>> by_reason({2: "dropped out", 5: "no reply", 7: "dropped out"})
    'clients 2, 7: dropped out; client 5: no reply'
    """
    clients = dict[str, list[int]]()
    for client, why in sorted(reasons.items()):
        clients.setdefault(why, []).append(client)
    return "; ".join(
        f"client{'s' if len(who) > 1 else ''} {', '.join(map(str, who))}: {why}"
        for why, who in clients.items()
    )


def _upload(reply: Message, client: int, most: int) -> Upload:
    if reply.has_error():
        raise BadUploadError(reply.error.reason or f"Flower's error {reply.error.code}")
    metrics = reply.content.get("metrics")
    if not isinstance(metrics, MetricRecord):
        raise BadUploadError(
            f"a reply must hold metrics, got {', '.join(reply.content) or 'nothing'}"
        )
    examples = metrics.get("num-examples")
    if not isinstance(examples, int) or not 1 <= examples <= most:
        raise BadUploadError(
            f"num-examples must be a whole number in [1, {most}], got {examples!r}"
        )
    from_real = metrics.get(FROM_REAL) != 0
    return Upload(client, examples, dict(reply.content.array_records), from_real)
