r"""CAFE's network schedule: train on as long as it teaches the set something, within caps.

After each step of the set the network's accuracy on real images is noted. While the last
``window`` notes spread over ``settled`` or more, the set takes another step on the same
network; once they agree, the network is trained on the set, epoch by epoch, until its
accuracies over the last ``window`` epochs spread over more than ``learned``. After ``outer``
rounds of this a fresh network takes its place.

References:
    | CAFE: Learning to Condense Dataset by Aligning Features (Wang et al., CVPR 2022)
    | https://arxiv.org/abs/2203.01531

Differences from the paper: its released loops have no caps and hang where accuracy is flat;
here a round ends after ``most_steps`` steps and ``most_epochs`` epochs at the latest. Each
round starts its notes anew.
"""

from dataclasses import dataclass
from typing import Any, final

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
    """Networks that are trained on the set when they have nothing left to teach it.

    Attributes:
        architecture: What they are.
        recipe: One epoch on the set.
        outer: Rounds that one network serves, >= 1.
        window: Accuracies that are compared, >= 2; 10 in CAFE.
        settled: Spread below which the set has learnt from a network, in [0, 1]; 0.04.
        learned: Spread above which a network has learnt from the set, in [0, 1]; 0.03.
        most_steps: Steps of the set a round at most, >= 1.
        most_epochs: Epochs of the network a round at most, >= 1.
        real_batch: Real images of each class that accuracy is taken on, >= 1; 128.
    """

    architecture: Architecture
    recipe: Recipe
    outer: int
    window: int
    settled: float
    learned: float
    most_steps: int
    most_epochs: int
    real_batch: int

    def __post_init__(self) -> None:
        for name, least in (("outer", 1), ("window", 2), ("most_steps", 1), ("most_epochs", 1)):
            whole(f"network_source.{name}", getattr(self, name), least)
        whole("network_source.real_batch", self.real_batch, 1)
        fraction("network_source.settled", self.settled)
        fraction("network_source.learned", self.learned)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work."""
        return _DynamicNetworks(self, real, state)


class _DynamicNetworks(Networks):
    def __init__(self, source: Dynamic, real: RealData, state: State) -> None:
        self.source, self.real = source, real
        self.number, self.round = int(state.get("number", 0)), int(state.get("round", 0))
        self.notes: list[float] = list(state.get("notes", []))
        self.network = self._fresh()
        if "network" in state:
            self.network.load_state_dict(state["network"])

    def take(self, index: int, small: Learned) -> Network:
        if index > 0:
            self.notes.append(self._accuracy(index))
            if self._settled():
                self._next_round(index, small)
        return self.network.requires_grad_(False)

    def _settled(self) -> bool:
        if len(self.notes) >= self.source.most_steps:
            return True
        return _spread(self.notes, self.source.window) < self.source.settled

    def _next_round(self, index: int, small: Learned) -> None:
        self.notes, self.round = [], self.round + 1
        if self.round == self.source.outer:
            self.number, self.round = self.number + 1, 0
            self.network = self._fresh()
            return
        self.network.requires_grad_(True)
        data, accuracies = small.as_images(), list[float]()
        rng = derive(self.real.seed, "inner training", index)
        while len(accuracies) < self.source.most_epochs:
            train(self.network, data, self.source.recipe, rng)
            accuracies.append(self._accuracy(index))
            spread = _spread(accuracies, self.source.window)
            if self.source.learned < spread < float("inf"):
                return

    def _accuracy(self, index: int) -> float:
        rng = derive(self.real.seed, "accuracy", index)
        batch = self.real.batch(self.source.real_batch, rng)
        images = LabelledImages(batch.images, batch.targets, self.real.num_classes)
        return score(self.network, images)[0]

    def _fresh(self) -> Network:
        return self.real.fresh(self.source.architecture, "network", self.number)

    def state(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "round": self.round,
            "notes": list(self.notes),
            "network": {k: v.clone() for k, v in self.network.state_dict().items()},
        }


def _spread(accuracies: list[float], window: int) -> float:
    """Returns the largest minus the least of the last few; infinite while there are fewer."""
    last = accuracies[-window:]
    return max(last) - min(last) if len(last) == window else float("inf")
