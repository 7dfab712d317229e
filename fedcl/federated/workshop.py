"""A workshop: what clients in one process would distil one after the other, distilled together.

Before messages are delivered, the small sets that they will make their clients ask for are made
in as few calls as possible. Each client gets its message, asks for its set, finds it ready, and
sends it; messages and bytes are those of clients that work alone, and so are the sets, but for
rounding. What can't be made together, or fails, is left to the client, and so is what an attacker
makes of other images than its own.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import final

from flwr.app import Message

from distill.condenser import Condenser, Task, condense
from distill.synthetic import SyntheticSet
from distill.together import condense_together, see_alike, stacks
from fedcl.federated.app import local_task
from fedcl.federated.base import FederatedMethod, World
from fedcl.federated.channel import Channel
from fedcl.federated.small_sets import Distilling

logger = logging.getLogger(__name__)


@final
class Workshop:
    """Makes the small sets of clients that work in this process."""

    def __init__(
        self, methods: Mapping[str, FederatedMethod], world: World, channel: Channel
    ) -> None:
        self.world = world
        self.methods = {  # what a compressed message says, its client alone can tell
            f"train.{action}": method.honest
            for action, method in methods.items()
            if isinstance(method.honest, Distilling) and channel.down is None
        }
        self._ready = dict[int, tuple[Condenser, Task, SyntheticSet]]()

    def prepare(self, messages: Sequence[Message]) -> None:
        """Makes the sets of the clients that get these messages; forgets those made before."""
        self._ready = {}
        for kind, method in self.methods.items():
            own = [message for message in messages if message.metadata.message_type == kind]
            for stack in stacks(method.method, self._wanted(method, own)):
                if len(stack) > 1:
                    self._make(method.method, stack)

    def condense(self, condenser: Condenser, task: Task) -> SyntheticSet:
        """Returns the small set of a task, made now if it isn't ready."""
        made_by, made_of, small = self._ready.pop(task.seed, (None, None, None))
        if small is None or made_by is not condenser or not _is_same(made_of, task):
            return condense(condenser, task)
        return small

    def _wanted(self, method: Distilling, messages: Sequence[Message]) -> Iterator[Task]:
        for message in messages:
            with suppress(ValueError):  # the client will say so itself
                received = dict(message.content.array_records)
                yield method.wanted(local_task(message, self.world, received))

    def _make(self, condenser: Condenser, stack: Sequence[Task]) -> None:
        try:
            made = condense_together(condenser, stack)
        except (FloatingPointError, ValueError):
            return  # the client that fails will say so itself
        except RuntimeError as error:  # too little memory for all at once, most often
            logger.warning("clients distil one after the other: %s", error)
            return
        self._ready |= {t.seed: (condenser, t, s) for t, s in zip(stack, made, strict=True)}


def _is_same(task: Task | None, other: Task) -> bool:
    return (
        task is not None
        and task.real is other.real
        and task.counts.equal(other.counts)
        and see_alike(task, other)
    )
