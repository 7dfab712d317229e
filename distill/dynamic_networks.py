"""CAFE's network schedule: train a network on the set until its accuracy settles, then a new one.

Over and over, a network goes through

    1. a step of the set on the network as it is;
    2. a note of the network's accuracy on real images; once the last ``window`` notes spread
       over less than ``settled``, a fresh network takes its place;
    3. training on the set, epoch by epoch, until the accuracies after the last ``window``
       epochs spread over more than ``learned``.

References:
    | CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., CVPR 2022)
    | https://arxiv.org/abs/2203.01531

Differences from the paper: it follows the released code, whose loops have no caps and hang where
accuracy is flat; here a network serves ``most_steps`` steps and is trained for ``most_epochs``
epochs between two of them at most. That code also adds a tenth of each accuracy to the next,
which is left out.
"""

from dataclasses import dataclass
from typing import Any, final

import torch

from distill.checks import fraction, whole
from distill.condenser import State
from distill.images import LabelledImages
from distill.learned import Learned
from distill.network_sources import Networks, NetworkSource
from distill.networks import Architecture, Network
from distill.real import RealData
from distill.rng import derive
from distill.training import Recipe, score, train


@final
@dataclass(frozen=True)
class Dynamic(NetworkSource):
    """Networks that are trained on the set between its steps, until their accuracy settles.

    Attributes:
        architecture: What they are.
        recipe: One epoch on the set.
        window: Accuracies that are compared, >= 2; 10 in CAFE.
        settled: Spread below which a network is replaced, in [0, 1]; 0.04.
        learned: Spread above which its training ends, in [0, 1]; 0.03.
        most_steps: Steps that one network serves at most, >= 1.
        most_epochs: Epochs between two of them at most, >= 1.
        real_batch: Real images of each class that accuracy is taken on, >= 1; 128.
    """

    architecture: Architecture
    recipe: Recipe
    window: int
    settled: float
    learned: float
    most_steps: int
    most_epochs: int
    real_batch: int

    def __post_init__(self) -> None:
        whole("network_source.window", self.window, 2)
        for name in ("most_steps", "most_epochs", "real_batch"):
            whole(f"network_source.{name}", getattr(self, name), 1)
        fraction("network_source.settled", self.settled)
        fraction("network_source.learned", self.learned)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work."""
        return _DynamicNetworks(self, real, state)


class _DynamicNetworks(Networks):
    def __init__(self, source: Dynamic, real: RealData, state: State) -> None:
        self.source, self.real = source, real
        self.number = int(state.get("number", 0))
        self.notes: list[float] = list(state.get("notes", []))
        self.network = self._fresh()
        if "network" in state:
            self.network.load_state_dict(state["network"])

    def take(self, index: int, small: Learned) -> Network:
        if index > 0:
            watch = derive(self.real.seed, "accuracy", index)
            self.notes.append(self._accuracy(watch))
            if self._settled():
                self.number, self.notes = self.number + 1, []
                self.network = self._fresh()
            else:
                self._train(index, small, watch)
        return self.network.requires_grad_(False)

    def _settled(self) -> bool:
        if len(self.notes) >= self.source.most_steps:
            return True
        return _spread(self.notes, self.source.window) < self.source.settled

    def _train(self, index: int, small: Learned, watch: torch.Generator) -> None:
        self.network.requires_grad_(True)
        data, accuracies = small.as_images(), list[float]()
        rng = derive(self.real.seed, "inner training", index)
        for _ in range(self.source.most_epochs):
            train(self.network, data, self.source.recipe, rng)
            accuracies.append(self._accuracy(watch))
            if self.source.learned < _spread(accuracies, self.source.window) < float("inf"):
                return

    def _accuracy(self, rng: torch.Generator) -> float:
        batch = self.real.batch(self.source.real_batch, rng)
        images = LabelledImages(batch.images, batch.targets, self.real.num_classes)
        return score(self.network, images)[0]

    def _fresh(self) -> Network:
        return self.real.fresh(self.source.architecture, "network", self.number)

    def state(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "notes": list(self.notes),
            "network": {k: v.clone() for k, v in self.network.state_dict().items()},
        }


def _spread(accuracies: list[float], window: int) -> float:
    """Returns the largest minus the least of the last few; infinite while there are fewer."""
    last = accuracies[-window:]
    return max(last) - min(last) if len(last) == window else float("inf")
