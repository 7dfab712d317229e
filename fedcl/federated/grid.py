"""An in-process Flower grid: no Ray, true bytes, one client after the other, resumable.

Every message is turned into the bytes a SuperLink would carry and back, in both directions,
so that what is counted is what would be sent and no client shares memory with the server.
Replies come one after the other, so that a thousand of them are never held at once.
A client's state is kept as bytes and replaced only when the client succeeded.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self, final

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from distill.checks import whole
from fedcl.wire import Frozen, Packet, freeze, thaw

RUN_ID = 1
FIRST_NODE = 100  # node ids are those of a SuperLink's making elsewhere: only workers
NEAR = 256  # messages that are looked at before the first of them is delivered
RAISED = 2  # Flower's code for a client app that raised

Prepare = Callable[[Sequence[Message]], None]
Heard = Callable[[], None]


@final
@dataclass(frozen=True)
class Exchange:
    """One message and its reply, in bytes and seconds."""

    node: int
    bytes_down: int
    bytes_up: int
    payload_down: int
    payload_up: int
    seconds: float

    @classmethod
    def unanswered(cls, node: int, down: Packet) -> Self:
        """Returns that of a message which no reply came to."""
        return cls(node, down.size, 0, down.payload, 0, 0.0)


@final
class LocalGrid(Grid):
    """Runs a ClientApp for each of ``nodes`` nodes in this process.

    Attributes:
        app: What a client does.
        prepare: Told which messages are about to be delivered, before the first of them is.
        heard: Called when a client has answered, or failed to.
    """

    def __init__(self, app: ClientApp, nodes: int, prepare: Prepare | None = None) -> None:
        whole("clients", nodes, 1)
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = RUN_ID, 1, 1
        self.app, self.prepare = app, prepare
        self.heard: Heard | None = None
        self.states: dict[int, Frozen] = {
            FIRST_NODE + index: freeze(RecordDict()) for index in range(nodes)
        }
        self.exchanges: list[Exchange] = []
        self._replies: dict[str, Message] = {}
        self._run: Any = None

    def set_run(self, run: Any) -> None:
        """Keeps Flower's run, which nothing here reads."""
        self._run = run

    @property
    def run(self) -> Any:
        """Flower's run, if one was set."""
        return self._run

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
        """Returns the ids of all nodes, ascending."""
        return list(self.states)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Lets each addressed client work, in the order of the messages."""
        return [self._exchange(message, 0.0) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Returns the replies to these messages, once."""
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(
        self,
        messages: Iterable[Message],
        *,
        timeout: float | None = None,  # noqa: ARG002
    ) -> Iterable[Message]:
        """Yields the reply to each message; its client works when its reply is asked for."""
        waiting = iter(messages)
        while near := list(islice(waiting, NEAR)):
            share = self._prepared(near)
            for message in near:
                yield self._replies.pop(self._exchange(message, share))

    def restore(self, states: Mapping[int, Frozen]) -> None:
        """Puts back the clients' states of an earlier run."""
        self.states = dict(states)

    def _prepared(self, near: Sequence[Message]) -> float:
        """Returns the seconds of each client in what was done for all of them."""
        clock = time.perf_counter()
        if self.prepare is not None:
            self.prepare(near)
        return (time.perf_counter() - clock) / len(near)

    def _exchange(self, message: Message, share: float) -> str:
        clock = time.perf_counter() - share
        node, down = message.metadata.dst_node_id, Packet(message)
        up = Packet(self._answer(node, down.unpack()))
        self._replies[down.object_id] = up.unpack()
        seconds = time.perf_counter() - clock
        self.exchanges.append(Exchange(node, down.size, up.size, down.payload, up.payload, seconds))
        if self.heard is not None:
            self.heard()
        return down.object_id

    def _answer(self, node: int, request: Message) -> Message:
        config: dict[str, Any] = {
            "partition-id": node - FIRST_NODE,
            "num-partitions": len(self.states),
        }
        context = Context(RUN_ID, node, config, thaw(self.states[node]), {})
        try:
            reply = self.app(request, context)
        except Exception as error:  # noqa: BLE001  a client is foreign code: its failure is a reply
            reason = f"{type(error).__name__}: {error}"
            return Message(Error(code=RAISED, reason=reason), reply_to=request)
        self.states[node] = freeze(context.state)
        return reply
