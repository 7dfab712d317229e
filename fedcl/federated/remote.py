"""A Flower grid whose clients work elsewhere, on Ray or on SuperNodes, metered on the server.

It wraps the grid that Flower gives to a ServerApp. A node is only a worker: which client it
plays stands in each message. Client i meets the i-th node of those that were there at the
start, in every round, as what a client keeps between rounds lies on its node; a node that
goes takes its client with it, and a node that comes later is never asked.

Bytes are those of the in-process grid, counted on the same packets when a message is sent and
when its reply has come, but for metadata: node and run ids are large random numbers here, and
a failure's reason is Flower's. Frames and retries of the transport are not counted.
"""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, final

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid

from distill.checks import positive, whole
from fedcl.federated.grid import Exchange
from fedcl.wire import Frozen, Packet

PAUSE = 0.2  # seconds between two looks for nodes or replies
UNKNOWN = 0  # Flower's code for a failure outside a client app
DEAD_ACTOR = "ActorDiedError"  # Ray's name for a worker process that is gone
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class WorkersLostError(RuntimeError):
    """Workers are missing, or died, so that no later round can be trusted."""


@final
@dataclass
class RemoteGrid(Grid):
    """Sends through ``inner``, to as many nodes as there are clients.

    Attributes:
        inner: The grid that Flower made.
        clients: How many there are, >= 1.
        patience: Seconds to wait for their nodes at the start, > 0.
        exchanges: Every message and its reply, as in the in-process grid.
        states: Nothing: what clients keep lies on their nodes.
    """

    inner: Grid
    clients: int
    patience: float
    exchanges: list[Exchange] = field(default_factory=list)
    states: dict[int, Frozen] = field(default_factory=dict)
    _nodes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole("clients", self.clients, 1)
        positive("patience", self.patience)

    def set_run(self, run: Any) -> None:
        """Tells the inner grid which run this is."""
        self.inner.set_run(run)

    @property
    def run(self) -> Any:
        """Flower's run."""
        return self.inner.run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Returns a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Returns the nodes that were there at the start, ascending; the first call waits.

        Raises:
            WorkersLostError: If there are not as many nodes as clients.
        """
        if not self._nodes:
            self._nodes = self._met()
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Sends messages; they are metered only by :meth:`send_and_receive`."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the replies that have come; see :meth:`push_messages`."""
        return self.inner.pull_messages(message_ids)

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Returns the replies in the order of the messages, and counts both.

        Args:
            messages: To nodes, one a node.
            timeout: Seconds after which a reply is given up; None waits for all. Flower answers
                for a node whose heartbeat has stopped.

        Raises:
            WorkersLostError: If a worker process of Ray has died: Flower would go on giving it
                work, which fails at once, in this round and in all later ones.
        """
        packets = [Packet(message) for message in messages]
        requests = [packet.unpack() for packet in packets]
        clock = time.perf_counter()
        keys = [self._pushed(request) for request in requests]
        sent = {key: request for key, request in zip(keys, requests, strict=True) if key}
        came = self._replies(sent, clock, timeout)
        self.exchanges += [
            _exchange(request, packet, came.get(key))
            for key, request, packet in zip(keys, requests, packets, strict=True)
        ]
        return [came[key][0] for key in sent if key in came]

    def restore(self, states: dict[int, Frozen]) -> None:
        """Takes no state: what clients keep lies on their nodes.

        Raises:
            TypeError: If there is some.
        """
        if states:
            raise TypeError(f"states must stay on their nodes, got {len(states)} to restore")

    def _met(self) -> list[int]:
        """Waits until as many nodes as clients are there."""
        end = time.perf_counter() + self.patience
        nodes = sorted(self.inner.get_node_ids())
        while len(nodes) < self.clients and time.perf_counter() < end:
            time.sleep(PAUSE)
            nodes = sorted(self.inner.get_node_ids())
        if len(nodes) != self.clients:
            raise WorkersLostError(
                f"nodes must be as many as clients, {self.clients}, got {len(nodes)}; "
                "a SuperLink needs one SuperNode for each client"
            )
        return nodes

    def _pushed(self, request: Message) -> str:
        """Returns the id that Flower gave to a message, empty where it took none."""
        # One by one, as Flower refuses large pushes as a whole, and leaves gaps in others.
        return next(iter(self.inner.push_messages([request])), None) or ""

    def _replies(
        self, sent: dict[str, Message], clock: float, timeout: float | None
    ) -> dict[str, tuple[Message, float]]:
        """Returns reply and seconds by message."""
        came: dict[str, tuple[Message, float]] = {}
        while len(came) < len(sent):
            waiting = [key for key in sent if key not in came]
            for reply in self.inner.pull_messages(waiting):
                key = reply.metadata.reply_to_message_id
                came[key] = (_readdressed(reply, sent[key]), time.perf_counter() - clock)
            if len(came) == len(sent) or _over(clock, timeout):
                break
            time.sleep(PAUSE)
        return came


def _over(clock: float, timeout: float | None) -> bool:
    return timeout is not None and time.perf_counter() - clock > timeout


def _exchange(request: Message, down: Packet, came: tuple[Message, float] | None) -> Exchange:
    node = request.metadata.dst_node_id
    if came is None:
        return Exchange.unanswered(node, down)
    up = Packet(came[0])
    return Exchange(node, down.size, up.size, down.payload, up.payload, came[1])


def _readdressed(reply: Message, request: Message) -> Message:
    """Returns a failure as a reply of the node it stands for: Flower answers for lost ones."""
    if not reply.has_error():
        return reply
    code, reason = reply.error.code, reply.error.reason or ""
    if code == UNKNOWN and DEAD_ACTOR in reason:
        raise WorkersLostError(
            "Ray's workers must live as long as the run, got one that died in a round; "
            "it was killed, or ran out of memory"
        )
    return Message(Error(code=code, reason=_one_line(reason)), reply_to=request)


def _one_line(reason: str) -> str:
    """Returns what a client raised, without the trace around it."""
    lines = [line.strip(" '>\n") for line in COLOURS.sub("", reason).splitlines()]
    return next((line for line in reversed(lines) if line), "")
