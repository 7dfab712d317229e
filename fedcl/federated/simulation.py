"""A federation: methods, clients and the server's task, round by round.

It can be written down after any round, and another one can go on from what was written.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, final

from flwr.app import ArrayRecord

from distill.images import LabelledImages
from distill.synthetic import SyntheticSet
from distill.training import score
from fedcl.federated.app import client_app
from fedcl.federated.base import FederatedMethod, ServerTask, World
from fedcl.federated.channel import Channel, ServerEnd
from fedcl.federated.grid import Exchange, LocalGrid
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.rounds import run_rounds
from fedcl.federated.strategy import MethodStrategy, RoundFailedError, Rules
from fedcl.federated.workshop import Workshop
from fedcl.wire import pack_weights

SUMMED = ("bytes_up", "bytes_down", "payload_bytes", "seconds")
Told = Callable[[float], None]


@final
@dataclass(frozen=True)
class RoundReport:
    """What one round cost.

    Attributes:
        totals: ``round``, ``bytes_up``, ``bytes_down``, ``payload_bytes``, ``seconds``,
            ``failures``; bytes of all clients, in serialised messages. With a link model,
            ``simulated_seconds`` until the round's end.
        clients: The same for each client that was asked, with ``failure`` and ``rejected``, each
            a reason or None; ``simulated_seconds`` until its answer, None where none came.
    """

    totals: Mapping[str, Any]
    clients: list[Mapping[str, Any]]


@final
class Simulation:
    """Clients on an in-process grid, or on the one that is given, and a server."""

    def __init__(
        self,
        methods: Mapping[str, FederatedMethod],
        world: World,
        rules: Rules,
        channel: Channel = Channel(),  # noqa: B008  a frozen value: nothing is compressed
        grid: RemoteGrid | None = None,
    ) -> None:
        if grid is None:
            workshop = Workshop(methods, world, channel)
            app = client_app(methods, world, channel, workshop.condense)
            clients = len(world.clients)
            self.grid: LocalGrid | RemoteGrid = LocalGrid(app, clients, workshop.prepare)
        else:  # its messages are of Flower's run, of which an in-process grid would be another
            self.grid = grid
        self.task = ServerTask(world, 0, 0, pack_weights(world.first_network()), None)
        self.strategies = {
            action: MethodStrategy(
                method, action, rules, self.task, ServerEnd(channel, method.vectors, world)
            )
            for action, method in methods.items()
        }

    def play(
        self, action: str, number: int, experience: int = 0, told: Told | None = None
    ) -> RoundReport:
        """Runs round ``number``, in which the clients do ``action``.

        Args:
            action: The name of a method.
            number: Of the round, >= 1.
            experience: Whose images the clients hold.
            told: Told each time a client has answered, where clients work in this process, which
                part of the round's images is done, in [0, 1].

        Raises:
            RoundFailedError: If too few clients complete; it has their rows.
        """
        strategy = self.strategies[action]
        strategy.task = replace(self.task, round=number, experience=experience, rejected={})
        strategy.exchanges, first = self.grid.exchanges, len(self.grid.exchanges)
        if isinstance(self.grid, LocalGrid):
            self.grid.heard = None if told is None else lambda: told(_share(strategy, first))
        try:
            for _ in run_rounds(self.grid, strategy, self.task.weights, range(number, number + 1)):
                self.task = strategy.task
        except RoundFailedError as error:
            error.clients = self._rows(strategy, first)
            raise
        rows = self._rows(strategy, first)
        totals = {key: sum(row[key] for row in rows) for key in SUMMED}
        if strategy.rules.link is not None:
            seconds = strategy.rules.link.of_round([row["simulated_seconds"] for row in rows])
            totals["simulated_seconds"] = seconds
        return RoundReport({"round": number, **totals, "failures": len(strategy.failures)}, rows)

    def _rows(self, strategy: MethodStrategy, first: int) -> list[Mapping[str, Any]]:
        """Returns what each client of a round cost, by node, behind the earlier exchanges."""
        exchanges = sorted(self.grid.exchanges[first:], key=attrgetter("node"))
        return [_row(strategy, exchange) for exchange in exchanges]

    def score(self, test: LabelledImages) -> tuple[float, float]:
        """Returns the accuracy and the loss on normalised images.

        Raises:
            FloatingPointError: If the loss is not finite.
        """
        accuracy, loss = score(self.task.model(), test)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the global network's loss must stay finite, got {loss} after round "
                f"{self.task.round}; lower training.learning_rate, or "
                "evaluation.recipe.learning_rate where the server trains"
            )
        return accuracy, loss

    def state(self) -> dict[str, Any]:
        """Returns what :meth:`restore` needs, as tensors and plain values."""
        memory = self.task.memory
        return {
            "weights": dict(self.task.weights.to_torch_state_dict()),
            "memory": None if memory is None else memory.state(),
            "kept": self.task.kept,
            "members": [dict(member.to_torch_state_dict()) for member in self.task.members],
            "ends": {action: strategy.end.state() for action, strategy in self.strategies.items()},
            "clients": {
                node: (key, dict(blobs)) for node, (key, blobs) in self.grid.states.items()
            },
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where :meth:`state` was taken."""
        self.grid.restore(state["clients"])
        for action, strategy in self.strategies.items():
            strategy.end.restore(state["ends"][action])
        memory, world = state["memory"], self.task.world
        self.task = replace(
            self.task,
            weights=ArrayRecord(state["weights"]),
            memory=None if memory is None else SyntheticSet.from_state(memory).to(world.device),
            kept=state["kept"],
            members=[ArrayRecord(member) for member in state["members"]],
        )


def _share(strategy: MethodStrategy, first: int) -> float:
    """Returns the part of a round's images whose clients have answered or dropped out; 0 of none.

    Args:
        strategy: Whose round it is.
        first: The exchanges of earlier rounds.
    """
    task = strategy.task
    sizes = {n: len(task.world.clients[c][task.experience]) for n, c in strategy.asked.items()}
    return sum(sizes[e.node] for e in strategy.exchanges[first:]) / max(1, sum(sizes.values()))


def _row(strategy: MethodStrategy, exchange: Exchange) -> Mapping[str, Any]:
    """Returns what one client cost in the round that was played last."""
    client, task = strategy.asked[exchange.node], strategy.task
    simulated = {"simulated_seconds": strategy.seconds(exchange)} if strategy.rules.link else {}
    return {
        "round": task.round,
        "client": client,
        "bytes_up": exchange.bytes_up,
        "bytes_down": exchange.bytes_down,
        "payload_bytes": exchange.payload_up + exchange.payload_down,
        "seconds": exchange.seconds,
        **simulated,
        "images": len(task.world.clients[client][task.experience]),
        "failure": strategy.failures.get(client),
        "rejected": task.rejected.get(client),
    }
