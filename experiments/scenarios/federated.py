"""Federated learning: clients with unequal data, rounds or one shot, true bytes both ways."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, final

import torch

from distill.checks import whole
from distill.networks import Architecture
from distill.rng import derive
from experiments.backends.base import Backend, Federation
from experiments.networks import check_networks
from experiments.scenarios.base import Folder, Outcome, Progress, Scenario, Steps
from experiments.scenarios.distillation import shown_beside
from fedcl.datasets import Dataset, DatasetSource
from fedcl.federated.base import FederatedMethod, World
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.partition import Partition, heterogeneity

ACTION = "update"


@final
@dataclass(frozen=True)
class Federated(Scenario):
    """One federated method on one partition.

    Attributes:
        dataset: Where the images come from.
        federated: The method, both halves.
        network: What is learnt.
        partition: Which images each client has.
        clients: How many, >= 1.
        participation: Share of the clients asked in a round, in (0, 1].
        min_completion: Share of the asked that must complete, in [0, 1].
        seed: Names every random stream.
        backend: Where the clients work.
    """

    dataset: DatasetSource
    federated: FederatedMethod
    network: Architecture
    partition: Partition
    clients: int
    participation: float
    min_completion: float
    seed: int
    backend: Backend

    def __post_init__(self) -> None:
        whole("clients", self.clients, 1)
        Rules(self.participation, self.min_completion)

    def prepare(self, device: str) -> "FederatedRun":  # noqa: ARG002
        """Loads the data, checks that every network takes it, and divides it."""
        data = self.dataset.load(self.seed)
        check_networks(self, data.train)
        rng = derive(self.seed, "partition")
        train = data.normalised(data.train)
        parts = self.partition.split(train.labels, train.num_classes, self.clients, rng)
        world = World(
            clients=[[train.rows(rows)] for rows in parts],
            architecture=self.network,
            normalisation=data.normalisation,
            image_shape=train.image_shape,
            num_classes=train.num_classes,
            seed=self.seed,
        )
        return FederatedRun(self, data, world)


@final
@dataclass(frozen=True)
class FederatedRun(Federation):
    """The scenario with its data and its clients."""

    scenario: Federated
    data: Dataset
    world: World
    grid: RemoteGrid | None = None

    @property
    def backend(self) -> Backend:
        """Where the clients work."""
        return self.scenario.backend

    def methods(self) -> Mapping[str, FederatedMethod]:
        """Returns the one method."""
        return {ACTION: self.scenario.federated}

    def on(self, grid: RemoteGrid) -> Self:
        """Returns this run with its clients on that grid."""
        return replace(self, grid=grid)

    def steps(self, folder: Folder) -> Steps:
        """Plays the rounds; each ends with a checkpoint."""
        scenario = self.scenario
        rules = Rules(scenario.participation, scenario.min_completion)
        simulation = Simulation(self.methods(), self.world, rules, self.grid)
        history, rows = resumed(simulation, folder)
        test = self.data.normalised(self.data.test)
        for number in range(len(history) + 1, scenario.federated.rounds + 1):
            report = simulation.play(ACTION, number)
            accuracy, loss = simulation.score(test)
            history.append({**report.totals, "accuracy": accuracy, "loss": loss})
            rows += report.clients
            folder.write_lines("clients.jsonl", rows)
            folder.save_checkpoint({**simulation.state(), "history": history, "rows": rows})
            yield Progress(number, scenario.federated.rounds, f"accuracy {accuracy:.3f}")
        return Outcome(
            metrics={**communication(history), **spread(self.world, self.data)},
            history=history,
            synthetic=simulation.task.memory,
            real=shown_beside(self.data.train),
        )


def spread(world: World, data: Dataset) -> dict[str, Any]:
    """Returns how the classes are spread over the clients, and the bytes of their raw images."""
    counts = torch.stack(
        [torch.stack([part.counts for part in client]).sum(0) for client in world.clients]
    )
    images = data.train.images
    return {
        "class_counts": counts.tolist(),
        "heterogeneity": heterogeneity(counts),
        "raw_bytes": images.numel() * images.element_size(),
    }


def resumed(
    simulation: Simulation, folder: Folder
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Puts a simulation where the checkpoint was; returns the history and the clients' rows."""
    state = folder.load_checkpoint()
    if state is None:
        return [], []
    simulation.restore(state)
    return list(state["history"]), list(state["rows"])


def communication(history: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the last accuracy and loss, and bytes and failures over all rounds."""
    return {
        "accuracy": history[-1]["accuracy"],
        "loss": history[-1]["loss"],
        "rounds": len(history),
        **{
            key: sum(row[key] for row in history)
            for key in ("bytes_up", "bytes_down", "payload_bytes", "failures")
        },
    }
