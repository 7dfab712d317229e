from collections.abc import Iterator, Sequence
from typing import final

import pretend
import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from distill.rng import global_stream

pretend.install()  # before the first backward pass, which counts the devices


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _threads() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_stream() -> Iterator[None]:
    with global_stream(0):  # networks that a test builds draw from torch's own
        yield


@final
class Elsewhere(Grid):
    """Stands for a grid of Flower's: nodes with large ids that come late, replies out of order.

    Attributes:
        nodes: Ids of those that are there; the first question for them finds none.
        broken: Error by node, which Flower gives instead of asking the client.
        silent: Nodes that never reply.
        lost: Nodes for which Flower takes no message.
    """

    def __init__(self, app: ClientApp, nodes: Sequence[int], run_config: dict | None = None):
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
        self.app, self.nodes, self.run_config = app, list(nodes), dict(run_config or {})
        self.asked, self.broken = 0, {}
        self.states = {node: RecordDict() for node in nodes}
        self.replies, self.silent, self.lost, self.pushed = {}, set(), set(), 0

    def set_run(self, run):
        raise AssertionError("nobody sets a run here")

    run = property(lambda self: None)

    def create_message(self, content, message_type, dst_node_id, group_id, ttl=None):
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self):
        self.asked += 1
        return [] if self.asked == 1 else list(self.nodes)

    def push_messages(self, messages):
        return [self._push(message) for message in messages]

    def pull_messages(self, message_ids):
        ready = [key for key in reversed(list(message_ids)) if key in self.replies]
        return [self.replies.pop(key) for key in ready[:1]]

    def send_and_receive(self, messages, *, timeout=None):
        raise AssertionError("a wrapping grid waits by itself")

    def _push(self, message: Message) -> str | None:
        self.pushed += 1
        key, node = f"message {self.pushed}", message.metadata.dst_node_id
        if node in self.lost:
            return None
        message.metadata.__dict__["_message_id"] = key
        if node not in self.silent:
            self.replies[key] = self._answer(message, node)
        return key

    def _answer(self, message: Message, node: int) -> Message:
        if node in self.broken:
            reply = Message(self.broken[node], reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = 1  # Flower's SuperLink speaks for the node
            return reply
        context = Context(1, node, {}, self.states[node], self.run_config)
        return self.app(message, context)


@pytest.fixture
def elsewhere() -> type[Elsewhere]:
    return Elsewhere
