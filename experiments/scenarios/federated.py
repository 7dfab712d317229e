"""Federated learning: clients with unequal data, rounds or one shot, true bytes both ways."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

from distill.checks import fraction, positive, whole
from distill.images import LabelledImages
from distill.networks import Architecture
from distill.rng import derive
from distill.training import Recipe
from distill.work import training
from experiments.backends.base import Backend, Federation
from experiments.forecast import Forecast
from experiments.networks import check_networks
from experiments.scenarios import rehearsed
from experiments.scenarios.base import Folder, Outcome, Progress, Scenario, Steps
from experiments.scenarios.distillation import shown_beside
from fedcl.client_accuracy import (
    client_counts,
    global_accuracies,
    mean_and_worst,
    personalised_accuracies,
)
from fedcl.datasets import Dataset, DatasetSource
from fedcl.federated.base import FederatedMethod, ServerTask, World
from fedcl.federated.channel import Channel
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.heterogeneity import heterogeneity
from fedcl.partition import Partition
from fedcl.shift import Shift, Views

ACTION = "update"


class TargetMissedError(RuntimeError):
    """The rounds are over and the accuracy that was asked for never came."""


@final
@dataclass(frozen=True)
class Federated(Scenario):
    """One federated method on one partition.

    Attributes:
        dataset: Where the images come from.
        federated: The method, both halves.
        compression: What both sides compress.
        network: What is learnt.
        partition: Which images each client has.
        shift: How a client sees them; the global accuracy is that on images as they are.
        personalise: How each client trains the global network on its own images at the end, to
            be scored with what it then has; None: not at all.
        clients: How many, >= 1.
        participation: Share of the clients asked in a round, in (0, 1].
        min_completion: Share of the asked that must complete, in [0, 1].
        target: Accuracy at which the rounds end, in (0, 1]; None: all rounds are played.
        seed: Names every random stream.
        backend: Where the clients work.
    """

    dataset: DatasetSource
    federated: FederatedMethod
    compression: Channel
    network: Architecture
    partition: Partition
    shift: Shift
    personalise: Recipe | None
    clients: int
    participation: float
    min_completion: float
    target: float | None
    seed: int
    backend: Backend

    def __post_init__(self) -> None:
        whole("clients", self.clients, 1)
        Rules(self.participation, self.min_completion)
        self.compression.check(self.federated.vectors)
        if self.target is not None:
            fraction("target", self.target)
            positive("target", self.target)

    def prepare(self, device: str) -> "FederatedRun":  # noqa: ARG002
        """Loads the data, checks that every network takes it, and divides it."""
        data = self.dataset.load(self.seed)
        check_networks(self, data.train)
        rng = derive(self.seed, "partition")
        train = data.normalised(data.train)
        parts = self.partition.split(train.labels, train.num_classes, self.clients, rng)
        views = Views(self.shift, self.clients, data.normalisation, self.seed)
        world = World(
            clients=[[views.seen_by(k, train.rows(rows))] for k, rows in enumerate(parts)],
            architecture=self.network,
            normalisation=data.normalisation,
            image_shape=train.image_shape,
            num_classes=train.num_classes,
            seed=self.seed,
        )
        return FederatedRun(self, data, world, views)


@final
@dataclass(frozen=True)
class FederatedRun(Federation):
    """The scenario with its data and its clients."""

    scenario: Federated
    data: Dataset
    world: World
    views: Views
    grid: RemoteGrid | None = None

    @property
    def backend(self) -> Backend:
        """Where the clients work."""
        return self.scenario.backend

    def methods(self) -> Mapping[str, FederatedMethod]:
        """Returns the one method."""
        return {ACTION: self.scenario.federated}

    @property
    def channel(self) -> Channel:
        """What clients and server compress."""
        return self.scenario.compression

    def on(self, grid: RemoteGrid) -> Self:
        """Returns this run with its clients on that grid."""
        return replace(self, grid=grid)

    def steps(self, folder: Folder) -> Steps:
        """Plays the rounds, each of which ends with a checkpoint; then scores the clients."""
        scenario = self.scenario
        rules = Rules(scenario.participation, scenario.min_completion)
        simulation = Simulation(self.methods(), self.world, rules, self.channel, self.grid)
        history, rows = resumed(simulation, folder)
        test = self.data.normalised(self.data.test)
        for number in range(len(history) + 1, scenario.federated.rounds + 1):
            if self._reached(history):
                break
            report = simulation.play(ACTION, number)
            accuracy, loss = simulation.score(test)
            history.append({**report.totals, "accuracy": accuracy, "loss": loss})
            rows += report.clients
            folder.write_lines("clients.jsonl", rows)
            folder.save_checkpoint({**simulation.state(), "history": history, "rows": rows})
            yield Progress(number, scenario.federated.rounds, f"accuracy {accuracy:.3f}")
        self._check_target(history)
        return Outcome(
            metrics={
                **communication(history),
                **spread(self.world, self.data),
                **client_metrics(global_accuracies(simulation.task, test, self.views)),
                **(yield from self._personalised(simulation.task, test)),
            },
            history=history,
            synthetic=simulation.task.memory,
            real=shown_beside(self.data.train),
        )

    def forecast(self) -> Forecast:
        """Rehearses the rounds; personalising follows them."""
        scenario, test = self.scenario, self.data.normalised(self.data.test)
        rules = Rules(scenario.participation, scenario.min_completion)
        rounds, recipe = scenario.federated.rounds, scenario.personalise
        own = [] if recipe is None else [LabelledImages.union(c) for c in self.world.clients]
        start = self.world.first_network
        after = [(training("personalising", start, data, recipe), 1) for data in own if recipe]
        tests = [test] * (rounds + 1 + len(own))
        return rehearsed.forecast(self, rules, [(0, ACTION)] * rounds, tests, after)

    def _reached(self, history: Sequence[Mapping[str, Any]]) -> bool:
        target = self.scenario.target
        return target is not None and bool(history) and history[-1]["accuracy"] >= target

    def _check_target(self, history: Sequence[Mapping[str, Any]]) -> None:
        if self.scenario.target is not None and not self._reached(history):
            best = max(row["accuracy"] for row in history)
            sent = sum(row["bytes_up"] + row["bytes_down"] for row in history)
            raise TargetMissedError(
                f"target must be reached, got accuracy {best:.4f} at most, {len(history)} rounds, "
                f"{sent} bytes; take more rounds, or a target below {self.scenario.target}"
            )

    def _personalised(
        self, task: ServerTask, test: LabelledImages
    ) -> Generator[Progress, None, dict[str, Any]]:
        recipe, found = self.scenario.personalise, list[float | None]()
        if recipe is None:
            return {}
        for accuracy in personalised_accuracies(task, recipe, test, self.views):
            found.append(accuracy)
            yield Progress(len(found), len(self.world.clients), "clients train on their own")
        mean, worst = mean_and_worst(found)
        return {
            "personalised_accuracies": found,
            "personalised_accuracy": mean,
            "worst_personalised_accuracy": worst,
        }


def client_metrics(accuracies: Sequence[float | None]) -> dict[str, Any]:
    """Returns the accuracy of the global network for each client, the mean and the worst."""
    mean, worst = mean_and_worst(accuracies)
    return {
        "client_accuracies": list(accuracies),
        "mean_client_accuracy": mean,
        "worst_client_accuracy": worst,
    }


def spread(world: World, data: Dataset) -> dict[str, Any]:
    """Returns how the classes are spread over the clients, and the bytes of their raw images."""
    counts, images = client_counts(world), data.train.images
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
