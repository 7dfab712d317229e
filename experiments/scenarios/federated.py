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
from experiments.scenarios.clients import pictured, spread
from experiments.scenarios.distillation import shown_beside
from fedcl.attacks.base import Attack
from fedcl.client_accuracy import (
    global_accuracies,
    mean_and_worst,
    personalised_accuracies,
)
from fedcl.datasets import Dataset, DatasetSource
from fedcl.defences.base import Defence
from fedcl.federated.availability import Availability
from fedcl.federated.base import FederatedMethod, ServerTask, World
from fedcl.federated.channel import Channel
from fedcl.federated.link import Link
from fedcl.federated.rehearsal import Round
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import RoundReport, Simulation, Told
from fedcl.federated.small_sets import sends_pixels
from fedcl.federated.strategy import RoundFailedError, Rules
from fedcl.partition import Partition
from fedcl.shift import Shift, Views
from fedcl.trust import Trust

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
        participation: Share of the clients that are there, asked in a round; in (0, 1].
        availability: Who joins late, and who drops out.
        link: What a round costs in simulated seconds; None: time isn't simulated.
        min_completion: Share of the asked that must complete, in [0, 1]; one at least.
        target: Accuracy at which the rounds end, in (0, 1]; None: all rounds are played.
        attack: What malicious clients do; None: all are honest.
        defence: Which small sets the server sets aside; None: none of the right form.
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
    availability: Availability
    link: Link | None
    min_completion: float
    target: float | None
    attack: Attack | None
    defence: Defence | None
    seed: int
    backend: Backend

    def __post_init__(self) -> None:
        whole("clients", self.clients, 1)
        self.rules.availability.check(self.clients)
        method, up = self.federated, self.compression.up
        self.compression.check(method.vectors, method.weights_up, sends_pixels(method))
        self.trust.check(self.federated)
        self.trust.check_uploads(self.rules.asked(self.clients))
        self.trust.check_message(up is not None and method.weights_up)
        if self.personalise is not None and self.federated.answers_together:
            raise ValueError(
                "personalise must be none where the clients' networks answer together, of which "
                "a client could train none"
            )
        if self.target is not None:
            fraction("target", self.target)
            positive("target", self.target)

    @property
    def rules(self) -> Rules:
        """Who takes part, how long it takes them, and how many must complete."""
        return Rules(self.participation, self.min_completion, self.availability, self.link)

    @property
    def trust(self) -> Trust:
        """The attack and the defence."""
        return Trust(self.attack, self.defence)

    def prepare(self, device: str) -> "FederatedRun":
        """Loads the data, checks that every network takes it, and divides it."""
        data = self.dataset.load(self.seed).to(device)
        check_networks(self, data.train)
        rng = derive(self.seed, "partition")
        train = data.normalised(data.train)
        parts = self.partition.split(train.labels.cpu(), train.num_classes, self.clients, rng)
        views = Views(self.shift, self.clients, data.normalisation, self.seed)
        world = World(
            clients=[[views.seen_by(k, train.rows(rows))] for k, rows in enumerate(parts)],
            architecture=self.network,
            normalisation=data.normalisation,
            image_shape=train.image_shape,
            num_classes=train.num_classes,
            seed=self.seed,
        )
        self.trust.check_world(world, data.validation)
        self.trust.check_test(data.normalised(data.test), data.normalisation)
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

    @property
    def rules(self) -> Rules:
        """Those of the scenario."""
        return self.scenario.rules

    def methods(self) -> Mapping[str, FederatedMethod]:
        """Returns the one method."""
        validation = self.data.normalised(self.data.validation)
        return {ACTION: self.scenario.trust.around(self.scenario.federated, validation)}

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
        simulation = Simulation(self.methods(), self.world, scenario.rules, self.channel, self.grid)
        history, rows = resumed(simulation, folder)
        test, trust = self.data.normalised(self.data.test), scenario.trust
        for number in range(len(history) + 1, scenario.federated.rounds + 1):
            if self._reached(history):
                break
            told = partly(folder, number, scenario.federated.rounds)
            report = played(simulation, Round(number, 0, ACTION), told, folder, rows)
            accuracy, loss = simulation.score(test)
            history.append({**report.totals, "accuracy": accuracy, "loss": loss})
            folder.save_checkpoint({**simulation.state(), "history": history, "rows": rows})
            yield Progress(number, scenario.federated.rounds, f"accuracy {accuracy:.3f}")
        self._check_target(history)
        return Outcome(
            metrics={
                **communication(history, rows, scenario.clients),
                **stragglers_and_joiners(scenario.rules, self.world),
                **spread(self.world, self.data, self.views),
                **client_metrics(global_accuracies(simulation.task, test, self.views)),
                **origin_of(scenario.federated, simulation.task),
                **trust.metrics(simulation.task, test, rows),
                **(yield from self._personalised(simulation.task, test)),
            },
            history=history,
            synthetic=simulation.task.memory,
            real=shown_beside(self.data.train),
            seen=pictured(self.views, self.data),
        )

    def forecast(self) -> Forecast:
        """Rehearses the rounds, all clients honest; personalising follows them."""
        scenario, test = self.scenario, self.data.normalised(self.data.test)
        honest = replace(self, scenario=replace(scenario, attack=None, defence=None))
        rounds, recipe = scenario.federated.rounds, scenario.personalise
        own = [] if recipe is None else [LabelledImages.union(c) for c in self.world.clients]
        start = self.world.first_network
        after = [(training("personalising", start, data, recipe), 1) for data in own if recipe]
        tests = [test] * (rounds + 1 + len(own))
        schedule = [Round(number, 0, ACTION) for number in range(1, rounds + 1)]
        return rehearsed.forecast(honest, schedule, tests, after, self._certainty())

    def _certainty(self) -> str:
        if self.scenario.target is not None:
            return "at most, for the target ends it"
        if self.scenario.attack is not None:
            return "as if all clients were honest"
        return rehearsed.EXACT

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


def partly(folder: Folder, number: int, rounds: int) -> Told:
    """Returns what notes which part of round ``number`` of ``rounds`` is done."""
    return lambda part: folder.note(Progress(number - 1 + part, rounds, f"round {number}"))


def played(
    simulation: Simulation,
    place: Round,
    told: Told,
    folder: Folder,
    rows: list[Mapping[str, Any]],
    **more: str,
) -> RoundReport:
    """Plays a round; its clients' rows follow those before it in ``clients.jsonl``.

    Args:
        simulation: The federation.
        place: The round.
        told: Told how far it is.
        folder: Where the rows are written, those of a round that fails as well.
        rows: Those of the rounds before; the new ones are added.
        more: What the new ones have besides.

    Raises:
        RoundFailedError: If too few clients complete.
    """
    try:
        report = simulation.play(place.action, place.number, place.experience, told)
    except RoundFailedError as error:
        folder.write_lines("clients.jsonl", [*rows, *({**row, **more} for row in error.clients)])
        raise
    rows += ({**row, **more} for row in report.clients)
    folder.write_lines("clients.jsonl", rows)
    return report


def client_metrics(accuracies: Sequence[float | None]) -> dict[str, Any]:
    """Returns the accuracy of the global network for each client, the mean and the worst."""
    mean, worst = mean_and_worst(accuracies)
    return {
        "client_accuracies": list(accuracies),
        "mean_client_accuracy": mean,
        "worst_client_accuracy": worst,
    }


def origin_of(method: FederatedMethod, task: ServerTask) -> dict[str, str]:
    """Returns whether the small set started from real images, and who made it; none: nothing."""
    memory = task.memory
    return {} if memory is None else {"origin": memory.origin, "set_by": method.set_by}


def resumed(
    simulation: Simulation, folder: Folder
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Puts a simulation where the checkpoint was; returns the history and the clients' rows."""
    state = folder.load_checkpoint()
    if state is None:
        return [], []
    simulation.restore(state)
    return list(state["history"]), list(state["rows"])


def communication(
    history: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], clients: int
) -> dict[str, Any]:
    """Returns the last accuracy and loss, and bytes, failures and time over all rounds.

    Args:
        history: One row a round.
        rows: One row a round and client that was asked.
        clients: How many there are; one that was never asked has sent nothing.
    """
    by_client = [0] * clients
    for row in rows:
        by_client[row["client"]] += row["bytes_up"] + row["bytes_down"]
    summed = ["bytes_up", "bytes_down", "payload_bytes", "failures"]
    summed += ["simulated_seconds"] if "simulated_seconds" in history[-1] else []
    return {
        "accuracy": history[-1]["accuracy"],
        "loss": history[-1]["loss"],
        "rounds": history[-1]["round"],
        **{key: sum(row[key] for row in history) for key in summed},
        "bytes_per_client_mean": round(sum(by_client) / clients),
        "bytes_per_client_max": max(by_client),
    }


def stragglers_and_joiners(rules: Rules, world: World) -> dict[str, Any]:
    """Returns which clients are slow and which join late, as far as any do."""
    clients, seed = len(world.clients), world.seed
    slow = [] if rules.link is None else rules.link.slow(clients, seed)
    found = {"stragglers": slow, "late_joiners": rules.availability.late_joiners(clients, seed)}
    return {name: numbers for name, numbers in found.items() if numbers}
