"""Distillation alone: make a small set, and see what networks learn from it."""

import logging
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any, final

from torch import Tensor, nn

from distill.checks import one_of, whole
from distill.condenser import Condenser, Step, Task, condense, even_counts
from distill.coresets import Random
from distill.evaluate import Evaluation, Race
from distill.images import LabelledImages, Normalisation
from distill.networks import Architecture, fresh
from distill.rng import derive, subseed
from distill.stores import STORES
from distill.synthetic import SyntheticSet
from distill.work import Work, condensing, training
from experiments.checkpoints import Checkpoints
from experiments.forecast import Forecast, Prediction
from experiments.networks import check_networks
from experiments.pace import PATIENCE, patience
from experiments.reporting.numbers import bytes_text
from experiments.scenarios.base import Folder, Outcome, Progress, Run, Scenario, Steps
from experiments.scenarios.foretold import Times, memory, time_of
from fedcl.datasets import Dataset, DatasetSource

logger = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 20.0
Scoring = Generator[Progress, None, dict[str, Any]]


@final
@dataclass(frozen=True)
class Distillation(Scenario):
    """One small set, evaluated beside random real images of the same number.

    Attributes:
        dataset: Where the images come from.
        method: Makes the small set.
        ipc: Images per class, >= 1; fewer where a class has fewer real ones.
        network: What the preset trains.
        evaluation: The preset.
        across: Other networks that are trained on the set, by name.
        store: Type that the set is kept in, ``float32``, ``float16`` or ``uint8``.
        stores: Further types that it is scored in, after its round trip through each.
        random: Whether to train on random real images of the same number too.
        whole: Whether to train on all real images too, as the upper bound.
        race: Whether to time training up to the set's accuracy, on the set and on all real images.
        scored_on: ``test``; ``validation`` for choices, the part that ``dataset.validation``
            holds out.
        seed: Names every random stream.
    """

    dataset: DatasetSource
    method: Condenser
    ipc: int
    network: Architecture
    evaluation: Evaluation
    across: Mapping[str, Architecture]
    store: str
    stores: Sequence[str]
    random: bool
    whole: bool
    race: bool
    scored_on: str
    seed: int

    def __post_init__(self) -> None:
        whole("ipc", self.ipc, 1)
        one_of("scored_on", self.scored_on, ("test", "validation"))
        for store in (self.store, *self.stores):
            one_of("store", store, STORES)

    def task(self, real: LabelledImages, normalisation: Normalisation) -> Task:
        """Returns what is to be made small, and how small."""
        counts = even_counts(real, self.ipc)
        if (short := int((counts < self.ipc).sum())) > 0:
            told = "ipc=%d: classes that have fewer images, %d, get as many as they have"
            logger.info(told, self.ipc, short)
        return Task(real, counts, normalisation, subseed(self.seed, "distil"))

    def prepare(self, device: str) -> Run:
        """Loads the data; checks that every network takes it."""
        data = self.dataset.load(self.seed)
        check_networks(self, data.train)
        if self.scored_on == "validation" and len(data.validation) == 0:
            raise ValueError("dataset.validation must be > 0 with scored_on=validation, got 0")
        return DistillationRun(self, data, device)


@final
@dataclass(frozen=True)
class DistillationRun(Run):
    """The scenario with its data."""

    scenario: Distillation
    data: Dataset
    device: str
    train: LabelledImages = field(init=False)
    test: LabelledImages = field(init=False)

    def __post_init__(self) -> None:
        scored = self.data.test if self.scenario.scored_on == "test" else self.data.validation
        train, test = self.data.normalised(self.data.train), self.data.normalised(scored)
        object.__setattr__(self, "train", train.to(self.device))
        object.__setattr__(self, "test", test.to(self.device))

    def steps(self, folder: Folder) -> Steps:
        """Distils, then evaluates the set, random real images and, if asked, all images."""
        task = self._task()
        made = yield from distilled(self.scenario.method, task, folder)
        small = self._read_back(made.small, self.scenario.store)
        self._warn_of_unused_labels(small.data)
        clock = time.perf_counter()
        random = self._read_back(condense(Random(), task), self.scenario.store).data
        scored = yield from self._scored("", small.data, small.rates)
        metrics = {
            **scored,
            "evaluate_seconds": time.perf_counter() - clock,
            **((yield from self._scored("random_", random)) if self.scenario.random else {}),
            **((yield from self._scored("whole_", self.train)) if self.scenario.whole else {}),
            **(yield from self._scored_as_stored(made.small)),
            **(yield from self._scored_across(small)),
            **((yield from self._raced(small, scored["accuracy"])) if self.scenario.race else {}),
            "images": len(small),
            "storage_bytes": small.storage_bytes(self.scenario.store),
            "storage_bytes_uint8": small.storage_bytes("uint8"),
            "data_bytes": self.data.train.images.numel(),
            "distill_seconds": made.seconds,
            "origin": small.origin,
            "given_bytes": small.given_bytes,
        }
        return Outcome(
            metrics,
            synthetic=small,
            real=shown_beside(self.data.train),
            evolution=made.evolution,
        )

    def forecast(self) -> Forecast:
        """Times a few steps of distilling, and of training on what the first of them left."""
        task, network = self._task(), self.scenario.network
        work = [(condensing("distilling", self.scenario.method, task), 1)]
        try:
            with patience():
                small = next(iter(self.scenario.method.steps(task))).result()
        except TimeoutError:
            late = f"no first step within {PATIENCE:.0f} s"
            return self._forecast(Prediction("stored", None, "bytes", late), work)
        own = 1 + self.scenario.random + len(self.scenario.stores)
        networks, times = self.scenario.across, self.scenario.evaluation.networks
        sets = [("evaluating", network, small.data)] * own
        sets += [(f"evaluating {name}", other, small.data) for name, other in networks.items()]
        sets += [("evaluating", network, self.train)] * self.scenario.whole
        work += [(self._evaluating(*one, small.rates), times) for one in sets]
        basis = f"exact; {len(small)} images of {small.data.image_shape}"
        stored = small.storage_bytes(self.scenario.store)
        return self._forecast(Prediction("stored", stored, "bytes", basis), work)

    def _forecast(self, stored: Prediction, work: Sequence[Times]) -> Forecast:
        seconds = time_of(work, {})
        if self.scenario.race:
            seconds.append(Prediction("  race", None, "seconds", "it ends when it is won"))
        held = memory(f"images {bytes_text(self.train.images.numel() * 4)}")
        return Forecast(self.train.counts[None], [stored, held, *seconds])

    def _task(self) -> Task:
        return self.scenario.task(self.train, self.data.normalisation)

    def _evaluating(
        self, name: str, architecture: Architecture, data: LabelledImages, rates: Sequence[float]
    ) -> Work:
        def network() -> nn.Module:
            rng = derive(self.scenario.seed, "forecast")
            made = fresh(architecture, data.image_shape, data.num_classes, rng)
            return made.to(self.device)

        recipe = self.scenario.evaluation.recipe_for(len(data), rates)
        return training(name, network, data, recipe)

    def _read_back(self, small: SyntheticSet, store: str) -> SyntheticSet:
        """The set as it is after a round trip through a store."""
        if store == "float32":
            return small
        return small.stored(store).to(self.device)

    def _warn_of_unused_labels(self, small: LabelledImages) -> None:
        recipe = self.scenario.evaluation.recipe
        if small.targets is not None and not recipe.uses_targets_of(small):
            logger.warning(
                "evaluation.recipe.loss must be squared for learned labels to count, got %s: "
                "networks learn the set's classes, though its bytes hold the labels; take "
                "evaluation=frepo, or labels=hard",
                recipe.loss,
            )

    def _scored_as_stored(self, small: SyntheticSet) -> Scoring:
        """The set read back from each further store, under the same networks."""
        metrics: dict[str, Any] = {}
        for store in self.scenario.stores:
            data = self._read_back(small, store).data
            metrics |= yield from self._scored(f"{store}_", data, small.rates)
        return metrics

    def _scored_across(self, small: SyntheticSet) -> Scoring:
        across: dict[str, Any] = {}
        for name, network in self.scenario.across.items():
            scored = yield from self._scored("", small.data, small.rates, network)
            across[name] = scored["accuracy"]
        return {"across": across} if across else {}

    def _raced(self, small: SyntheticSet, accuracy: float) -> Scoring:
        metrics: dict[str, Any] = {}
        for name, data in (("small", small.data), ("whole", self.train)):
            rates = small.rates if name == "small" else ()
            recipe = self.scenario.evaluation.recipe_for(len(data), rates)
            rng = derive(self.scenario.seed, "race", name)
            network = fresh(self.scenario.network, data.image_shape, data.num_classes, rng)
            race = Race(network.to(self.device), accuracy, self.test)
            race.run(data, recipe, rng)
            yield Progress(1, 1, f"race on the {name} set: {race.seconds:.1f} s")
            reached = {"seconds": race.seconds, "updates": race.updates} if race.won else {}
            metrics |= {f"{name}_{key}_to_accuracy": value for key, value in reached.items()}
        return metrics

    def _scored(
        self,
        prefix: str,
        small: LabelledImages,
        rates: Sequence[float] = (),
        network: Architecture | None = None,
    ) -> Scoring:
        evaluation, accuracies = self.scenario.evaluation, list[float]()
        seed = subseed(self.scenario.seed, "evaluate")
        architecture = network or self.scenario.network
        for accuracy in evaluation.accuracies(small, self.test, architecture, seed, rates):
            accuracies.append(accuracy)
            text = f"{prefix.rstrip('_') or 'small'} set: {accuracy:.3f}"
            yield Progress(len(accuracies), evaluation.networks, text)
        spread = stdev(accuracies) if len(accuracies) > 1 else None
        return {f"{prefix}accuracy": mean(accuracies), f"{prefix}accuracy_std": spread}


@final
@dataclass(frozen=True)
class Distilled:
    """What a condensation left.

    Attributes:
        small: The set.
        seconds: What it took.
        evolution: The first image of each class after 1, 2, 5, 10, 20, 50, ... steps, uint8.
    """

    small: SyntheticSet
    seconds: float
    evolution: Mapping[int, Tensor]


def distilled(
    method: Condenser, task: Task, folder: Folder
) -> Generator[Progress, None, Distilled]:
    """Yields the steps of one condensation and returns what it left."""
    saved = folder.load_checkpoint()
    before = 0.0 if saved is None else float(saved["seconds"])
    evolution: dict[int, Tensor] = {} if saved is None else dict(saved["evolution"])
    clock, checkpoints = time.perf_counter(), Checkpoints(folder, CHECKPOINT_SECONDS)
    for step in method.steps(task, None if saved is None else saved["state"]):
        if step.total > 1 and _is_shown(step):
            evolution[step.done] = _first_of_each_class(step.result())
        seconds = before + time.perf_counter() - clock
        checkpoints.after(step, {"seconds": seconds, "evolution": dict(evolution)})
        text = "distil" if step.loss is None else f"distil: loss {step.loss:.4g}"
        yield Progress(step.done, step.total, text)
    return Distilled(step.result(), before + time.perf_counter() - clock, evolution)


def _is_shown(step: Step) -> bool:
    return step.done == step.total or int(str(step.done).rstrip("0") or 0) in (1, 2, 5)


def _first_of_each_class(small: SyntheticSet) -> Tensor:
    labels = small.data.labels.cpu()
    first = [int((labels == label).nonzero()[0]) for label in sorted(set(labels.tolist()))]
    return small.normalisation.quantise(small.data.images[first]).cpu()


def shown_beside(real: LabelledImages, per_class: int = 10) -> LabelledImages:
    """Returns the first few images of each class, as stored, to show beside a small set."""
    rows = [row for label in range(real.num_classes) for row in _first(real, label, per_class)]
    return real.rows(real.labels.new_tensor(rows))


def _first(real: LabelledImages, label: int, count: int) -> Iterator[int]:
    yield from (real.labels == label).nonzero().flatten()[:count].tolist()
