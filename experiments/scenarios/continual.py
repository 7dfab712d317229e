"""Continual learning: a stream of experiences, and what is still known at its end."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, final

import torch

from distill.images import LabelledImages, stored_bytes
from distill.networks import Architecture, Network
from distill.training import Recipe
from experiments.forecast import Forecast, Prediction
from experiments.networks import check_networks
from experiments.reporting.numbers import bytes_text
from experiments.scenarios.base import Folder, Outcome, Progress, Run, Scenario, Steps
from experiments.scenarios.distillation import shown_beside
from experiments.scenarios.foretold import memory, time_of
from fedcl import metrics
from fedcl.continual.base import ContinualMethod
from fedcl.continual.learner import Cost, Learner, Setting
from fedcl.datasets import Dataset, DatasetSource
from fedcl.memory import Memory
from fedcl.streams.base import Stream

COSTS = ("train_seconds", "distill_seconds", "evaluate_seconds", "samples")


@final
@dataclass(frozen=True)
class Continual(Scenario):
    """One continual method on one stream.

    Attributes:
        dataset: Where the images come from.
        continual: The method.
        network: What learns.
        stream: Which classes come when.
        training: How an experience is trained.
        seed: Names every random stream, the class order among them.
    """

    dataset: DatasetSource
    continual: ContinualMethod
    network: Architecture
    stream: Stream
    training: Recipe
    seed: int

    def __post_init__(self) -> None:
        once = self.stream.online and self.continual.learns == "experience"
        if once and self.training.epochs > 1:
            raise ValueError(
                "training.epochs must be 1 where stream.online is true, since each image is seen "
                f"once, got {self.training.epochs}; take stream=class_incremental for more"
            )
        replayed = self.continual.replayed
        if self.stream.online and replayed is not None and replayed.budget.staged is None:
            raise ValueError(
                "buffer.staged must be given where stream.online is true, since images that wait "
                "for the memory are kept as well, got null; take buffer.staged=50, or "
                "stream=class_incremental, where an experience is at hand until it ends"
            )

    def prepare(self, device: str) -> Run:
        """Loads the data, checks that every network takes it, and makes the learner."""
        data = self.dataset.load(self.seed).to(device)
        check_networks(self, data.train)
        train, test = data.normalised(data.train), data.normalised(data.test)
        setting = Setting(
            experiences=self.stream.divide(train, test, self.seed),
            tells_tasks=self.stream.tells_tasks,
            normalisation=data.normalisation,
            architecture=self.network,
            recipe=self.training,
            seed=self.seed,
        )
        return ContinualRun(data, setting, Learner(self.continual, setting))


@final
@dataclass(frozen=True)
class ContinualRun(Run):
    """The scenario with its data and its learner."""

    data: Dataset
    setting: Setting
    learner: Learner

    def steps(self, folder: Folder) -> Steps:
        """Learns the experiences; each ends with a checkpoint."""
        learner = self.learner
        total = 1 if learner.method.learns == "stream" else len(self.setting.experiences)
        state = folder.load_checkpoint()
        history: list[Mapping[str, Any]] = [] if state is None else list(state["history"])
        shown = dict[int, list[torch.Tensor]]() if state is None else dict(state["shown"])
        untrained = learner.accuracies() if state is None else list(state["untrained"])
        if state is not None:
            learner.restore(state)
        for index in range(len(history), total):
            clock = time.perf_counter()
            cost = learner.learn(index)
            history.append({**self._row(index, cost), "seconds": time.perf_counter() - clock})
            if learner.memory is not None:
                shown[index] = self._shown(learner.memory)
            kept = {"history": history, "untrained": untrained, "shown": shown}
            folder.save_checkpoint({**learner.state(), **kept})
            text = f"average accuracy {history[-1]['accuracy']:.3f}"
            yield Progress(index + 1, total, text)
        return Outcome(
            metrics=self._metrics(history, untrained),
            history=history,
            synthetic=None if learner.memory is None else learner.memory.as_set(),
            real=shown_beside(self.data.train),
            memories={
                index: LabelledImages(images, labels, self.data.train.num_classes)
                for index, (images, labels) in shown.items()
            },
        )

    def forecast(self) -> Forecast:
        """Times an epoch of some experiences, and a few steps of what fills the memory."""
        work, kept = self.learner.work()
        stored, how = self._told(kept)
        return Forecast(
            torch.stack([experience.train.counts for experience in self.setting.experiences]),
            [
                Prediction("buffer", stored, "bytes", how),
                *time_of([(piece, 1) for piece in work], {}),
                memory(f"images {bytes_text(self.setting.data.images.numel() * 4)}"),
            ],
        )

    def _told(self, kept: Memory | None) -> tuple[int, str]:
        """Returns the most bytes that will be kept to be replayed, and how that is known."""
        if kept is None:
            images, stored = self.learner.stored(len(self.setting.experiences) - 1)
            return stored, f"exact; {images} images at the end"
        replayed = self.learner.method.replayed
        if replayed is not None and not replayed.method.makes_pixels:
            return kept.allowed, "at most, in images that are decoded"
        waiting = kept.budget.staged
        if waiting is None:
            return kept.peak, f"exact; {len(kept)} images at the end"
        each = stored_bytes(1, self.setting.data.image_shape, "uint8")
        how = f"at most, with {waiting} that wait; {len(kept)} images at the end"
        return kept.peak + waiting * each, how

    def _shown(self, memory: Memory) -> list[torch.Tensor]:
        """The first images of each class and their labels, uint8."""
        data = memory.data()
        stored = replace(data, images=self.setting.normalisation.quantise(data.images))
        first = shown_beside(stored)
        return [first.images, first.labels]

    def _row(self, index: int, cost: Cost) -> dict[str, Any]:
        clock, learner = time.perf_counter(), self.learner
        accuracies, (images, stored) = learner.accuracies(), learner.stored(index)
        whole, experiences = learner.method.learns == "stream", self.setting.experiences
        seen = accuracies if whole else accuracies[: index + 1]
        learnt = experiences if whole else experiences[index : index + 1]
        return {
            "experience": index,
            "classes": list(dict.fromkeys(c for part in learnt for c in part.classes)),
            "accuracies": accuracies,
            "accuracy": sum(seen) / len(seen),
            "buffer_bytes": stored,
            "buffer_images": images,
            "kept_bytes": learner.kept_bytes,
            **asdict(cost),
            "evaluate_seconds": time.perf_counter() - clock,
        }

    def _metrics(self, history: list[Mapping[str, Any]], untrained: list[float]) -> dict[str, Any]:
        matrix = [list(row["accuracies"]) for row in history]
        groups = [list(experience.classes) for experience in self.setting.experiences]
        kept, memory = max(row["kept_bytes"] for row in history), self.learner.memory
        common = {
            "accuracy_matrix": matrix,
            "experience_classes": groups,
            "class_order": list(dict.fromkeys(label for group in groups for label in group)),
            "test_accuracy": self._weighted(matrix[-1]),
            "buffer_bytes": max(row["buffer_bytes"] for row in history),
            "buffer_images": max(row["buffer_images"] for row in history),
            "kept_bytes": kept,
            **({} if memory is None else {"buffer_allowed": memory.allowed}),
            "model_copies": kept / network_bytes(self.learner.network),
            **{name: sum(row[name] for row in history) for name in COSTS},
        }
        if self.learner.method.learns == "stream":
            return {"average_accuracy": sum(matrix[-1]) / len(matrix[-1]), **common}
        return {**stream_metrics(matrix, untrained), **common}

    def _weighted(self, accuracies: list[float]) -> float:
        """Returns the accuracy over all test images, whichever experience they are of."""
        sizes = [len(experience.test) for experience in self.setting.experiences]
        pairs = zip(accuracies, sizes, strict=True)
        return sum(accuracy * size for accuracy, size in pairs) / sum(sizes)


def network_bytes(network: Network) -> int:
    """Returns the bytes of the network's parameters."""
    return sum(weights.numel() * weights.element_size() for weights in network.parameters())


def stream_metrics(matrix: list[list[float]], untrained: list[float]) -> dict[str, float]:
    """Returns the metrics of an accuracy matrix R[i][j]; see :mod:`fedcl.metrics`."""
    R = torch.tensor(matrix, dtype=torch.float64)
    return {
        "average_accuracy": metrics.average_accuracy(R),
        "average_incremental_accuracy": metrics.average_incremental_accuracy(R),
        "average_forgetting": metrics.average_forgetting(R),
        "backward_transfer": metrics.backward_transfer(R),
        "learning_accuracy": metrics.learning_accuracy(R),
        "forward_transfer": metrics.forward_transfer(
            R, torch.tensor(untrained, dtype=torch.float64)
        ),
    }
