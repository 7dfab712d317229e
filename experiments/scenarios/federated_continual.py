"""Federated continual learning: clients that each see a stream, and one global network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self, final

from distill.checks import whole
from distill.images import LabelledImages
from distill.networks import Architecture
from distill.rng import derive
from distill.training import score
from experiments.backends.base import Backend, Federation
from experiments.forecast import Forecast
from experiments.networks import check_networks
from experiments.scenarios import rehearsed
from experiments.scenarios.base import Folder, Outcome, Progress, Scenario, Steps
from experiments.scenarios.clients import pictured, spread
from experiments.scenarios.continual import stream_metrics
from experiments.scenarios.distillation import shown_beside
from experiments.scenarios.federated import (
    client_metrics,
    communication,
    partly,
    played,
    resumed,
    stragglers_and_joiners,
)
from fedcl.client_accuracy import global_accuracies
from fedcl.datasets import Dataset, DatasetSource
from fedcl.federated.availability import Availability
from fedcl.federated.base import FederatedMethod, ServerTask, World
from fedcl.federated.channel import Channel
from fedcl.federated.link import Link
from fedcl.federated.rehearsal import Round
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.federated_continual.base import FederatedContinualMethod
from fedcl.partition import Partition
from fedcl.shift import Shift, Views
from fedcl.streams.base import ClassStream, experience_rows

LEARN, REMEMBER = "learn", "remember"


@final
@dataclass(frozen=True)
class FederatedContinual(Scenario):
    """One federated continual method on one stream, divided among clients.

    Attributes:
        dataset: Where the images come from.
        federated_continual: The method.
        compression: What both sides compress.
        network: What is learnt.
        partition: Which images of an experience each client has.
        shift: How a client sees them; the global accuracies are those on images as they are.
        stream: Which classes come when; the same for all clients.
        clients: How many, >= 1.
        participation: Share of the clients that are there, asked in a round; in (0, 1].
        availability: Who joins late, and who drops out.
        link: What a round costs in simulated seconds; None: time isn't simulated.
        min_completion: Share of the asked that must complete, in [0, 1]; one at least.
        seed: Names every random stream.
        backend: Where the clients work.
    """

    dataset: DatasetSource
    federated_continual: FederatedContinualMethod
    compression: Channel
    network: Architecture
    partition: Partition
    shift: Shift
    stream: ClassStream
    clients: int
    participation: float
    availability: Availability
    link: Link | None
    min_completion: float
    seed: int
    backend: Backend

    def __post_init__(self) -> None:
        whole("clients", self.clients, 1)
        self.rules.availability.check(self.clients)
        if self.compression.images is not None:
            raise ValueError("compression.images must be null where clients learn a stream")
        if not isinstance(self.stream, ClassStream):
            raise ValueError(
                "stream must bring classes that never come back where clients learn it, as "
                f"class_incremental does, got {type(self.stream).__name__}"
            )
        if self.stream.tells_tasks:
            raise ValueError(
                "stream.tells_tasks must be false where clients learn it, since all classes are "
                "answers there, got true; take stream=class_incremental, or the verb continual"
            )
        if self.stream.online and self.federated_continual.passes > 1:
            raise ValueError(
                "rounds x training.epochs must be 1 where stream.online is true, since each image "
                f"is seen once, got {self.federated_continual.passes}; take rounds=1, or "
                "stream=class_incremental"
            )

    @property
    def rules(self) -> Rules:
        """Who takes part, how long it takes them, and how many must complete."""
        return Rules(self.participation, self.min_completion, self.availability, self.link)

    def prepare(self, device: str) -> "FederatedContinualRun":
        """Loads the data, checks networks and memory, and divides it by experience and client."""
        data = self.dataset.load(self.seed).to(device)
        check_networks(self, data.train)
        train, test = data.normalised(data.train), data.normalised(data.test)
        classes = [e.classes for e in self.stream.divide(train, test, self.seed)]
        views = Views(self.shift, self.clients, data.normalisation, self.seed)
        parts = [self._divided(train, index, group) for index, group in enumerate(classes)]
        world = World(
            clients=[
                [views.seen_by(k, part, "experience", e) for e, part in enumerate(client)]
                for k, client in enumerate(zip(*parts, strict=True))
            ],
            architecture=self.network,
            normalisation=data.normalisation,
            image_shape=train.image_shape,
            num_classes=train.num_classes,
            seed=self.seed,
        )
        budget = self.federated_continual.budget
        if budget is not None:
            budget.capacity(train.image_shape, train.num_classes)
        return FederatedContinualRun(self, data, world, views, classes)

    def _divided(
        self, train: LabelledImages, index: int, classes: Sequence[int]
    ) -> list[LabelledImages]:
        part = train.rows(experience_rows(train.labels, classes))
        rng = derive(self.seed, "partition", index)
        try:
            rows = self.partition.split(part.labels.cpu(), part.num_classes, self.clients, rng)
        except ValueError as error:
            raise ValueError(f"in experience {index + 1}, {error}") from error
        return [part.rows(own) for own in rows]


@final
@dataclass(frozen=True)
class FederatedContinualRun(Federation):
    """The scenario with its data and its clients."""

    scenario: FederatedContinual
    data: Dataset
    world: World
    views: Views
    classes: Sequence[Sequence[int]]
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
        """Returns what clients do while they learn and, with a memory, at an experience's end."""
        method = self.scenario.federated_continual
        remembering = method.remembering()
        memory = {} if remembering is None else {REMEMBER: remembering}
        return {LEARN: method.learning(), **memory}

    @property
    def channel(self) -> Channel:
        """What clients and server compress."""
        return self.scenario.compression

    def on(self, grid: RemoteGrid) -> Self:
        """Returns this run with its clients on that grid."""
        return replace(self, grid=grid)

    def steps(self, folder: Folder) -> Steps:
        """Plays the rounds of every experience; each ends with a checkpoint."""
        simulation, schedule = self._simulation(), self._schedule()
        tests = self._tests()
        untrained = accuracies(simulation, tests)
        history, rows = resumed(simulation, folder)
        for place in range(len(history) + 1, len(schedule) + 1):
            turn, told = schedule[place - 1], partly(folder, place, len(schedule))
            report = played(simulation, turn, told, folder, rows, action=turn.action)
            accuracy, loss = simulation.score(LabelledImages.union(tests[: turn.experience + 1]))
            history.append(
                {
                    **report.totals,
                    "experience": turn.experience,
                    "action": turn.action,
                    "accuracy": accuracy,
                    "loss": loss,
                    "accuracies": accuracies(simulation, tests),
                }
            )
            folder.save_checkpoint({**simulation.state(), "history": history, "rows": rows})
            yield Progress(place, len(schedule), f"accuracy {accuracy:.3f} on classes so far")
        test = self.data.normalised(self.data.test)
        by_client = client_metrics(global_accuracies(simulation.task, test, self.views))
        return Outcome(
            metrics={
                **communication(history, rows, self.scenario.clients),
                **stragglers_and_joiners(self.scenario.rules, self.world),
                **self._metrics(history, untrained),
                **self._stored(simulation.task),
                **by_client,
            },
            history=history,
            synthetic=simulation.task.memory,
            real=shown_beside(self.data.train),
            seen=pictured(self.views, self.data),
        )

    def forecast(self) -> Forecast:
        """Rehearses the rounds of every experience."""
        schedule, test = self._schedule(), self.data.normalised(self.data.test)
        return rehearsed.forecast(self, schedule, [test] * 2 * (len(schedule) + 1))

    def _simulation(self) -> Simulation:
        rules = self.scenario.rules
        return Simulation(self.methods(), self.world, rules, self.channel, self.grid)

    def _schedule(self) -> list[Round]:
        """Returns all rounds; one that fills memories has the number of the one before it.

        So what goes by the number, as who is there and whom the server asks, is the same with
        memories and without.
        """
        method, schedule = self.scenario.federated_continual, list[Round]()
        each = method.learning().rounds
        for experience in range(len(self.classes)):
            last = each * (experience + 1)
            numbers = range(last - each + 1, last + 1)
            schedule += [Round(number, experience, LEARN) for number in numbers]
            if method.remembering() is not None:
                schedule.append(Round(last, experience, REMEMBER))
        return schedule

    def _tests(self) -> list[LabelledImages]:
        test = self.data.normalised(self.data.test)
        return [test.rows(experience_rows(test.labels, group)) for group in self.classes]

    def _metrics(self, history: list[Mapping[str, Any]], untrained: list[float]) -> dict[str, Any]:
        last = {row["experience"]: list(row["accuracies"]) for row in history}
        matrix = [last[index] for index in range(len(self.classes))]
        return {
            **spread(self.world, self.data, self.views),
            **stream_metrics(matrix, untrained),
            "accuracy_matrix": matrix,
            "experience_classes": [list(group) for group in self.classes],
            "class_order": [label for group in self.classes for label in group],
        }

    def _stored(self, task: ServerTask) -> dict[str, int]:
        memories = self.scenario.federated_continual.held(task)
        return {
            "buffer_images": sum(map(len, memories)),
            "buffer_bytes": sum(memory.peak for memory in memories),
        }


def accuracies(simulation: Simulation, tests: Sequence[LabelledImages]) -> list[float]:
    """Returns the global network's accuracy on each experience's test images."""
    model = simulation.task.model()
    return [score(model, test)[0] for test in tests]
