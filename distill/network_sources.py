"""Which networks see the synthetic images: fresh ones, or ones trained along the way."""

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch

from distill.checks import positive, whole
from distill.condenser import State
from distill.images import LabelledImages
from distill.labels import scores
from distill.learned import Learned
from distill.networks import Architecture, Network
from distill.real import RealData
from distill.rng import derive
from distill.training import Recipe, train


class NetworkSource(ABC):
    """Where networks come from. Subclasses are final frozen dataclasses.

    Attributes:
        shared: Whether tasks that name their networks alike, and are given the same ones, see
            the same networks, whatever their images.
    """

    shared: ClassVar[bool] = False

    @abstractmethod
    def begin(self, real: RealData, state: State) -> "Networks":
        """Returns the source at work; ``state`` is what it left earlier, or empty."""


class Networks(ABC):
    """A source at work."""

    @abstractmethod
    def take(self, index: int, small: Learned) -> Network:
        """Returns the network of step ``index``; steps are asked for in order."""

    @abstractmethod
    def state(self) -> State:
        """Returns what :meth:`NetworkSource.begin` needs to go on from here."""


@final
@dataclass(frozen=True)
class Fresh(NetworkSource):
    """Newly initialised networks (DM).

    Attributes:
        architecture: What they are.
        steps: Steps that one network serves, >= 1.
    """

    architecture: Architecture
    steps: int
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("network_source.steps", self.steps, 1)

    def begin(self, real: RealData, state: State) -> Networks:  # noqa: ARG002
        """Returns the source at work; it leaves nothing to keep."""
        return _Renewed(real, self.architecture, self.steps)


@final
@dataclass(frozen=True)
class TrainedOnSynthetic(NetworkSource):
    """Networks that are trained on the set itself between its steps (DC, DSA).

    Attributes:
        architecture: What they are.
        outer: Steps that one network serves before a fresh one replaces it, >= 1.
        recipe: How it is trained between two of them.
    """

    architecture: Architecture
    outer: int
    recipe: Recipe

    def __post_init__(self) -> None:
        whole("network_source.outer", self.outer, 1)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work."""
        return _Trained(self, None, real, state)


@final
@dataclass(frozen=True)
class TrainedOnReal(NetworkSource):
    """Networks that are trained on real images between the set's steps (IDC).

    Attributes:
        architecture: What they are.
        outer: Steps that one network serves before a fresh one replaces it, >= 1.
        recipe: How it is trained between two of them.
        images: Real images that it is trained on each time, >= 1.
    """

    architecture: Architecture
    outer: int
    recipe: Recipe
    images: int

    def __post_init__(self) -> None:
        whole("network_source.outer", self.outer, 1)
        whole("network_source.images", self.images, 1)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work."""
        return _Trained(self, self.images, real, state)


class _Renewed(Networks):
    def __init__(self, real: RealData, architecture: Architecture, steps: int) -> None:
        self.real, self.architecture, self.steps = real, architecture, steps
        self.network: Network | None = None

    def take(self, index: int, small: Learned) -> Network:  # noqa: ARG002
        if self.network is None or index % self.steps == 0:
            network = self.real.shared(self.architecture, "network", index // self.steps)
            self.network = network.requires_grad_(False)
        return self.network

    def state(self) -> State:
        return {}


class _Trained(Networks):
    def __init__(
        self,
        source: TrainedOnSynthetic | TrainedOnReal,
        images: int | None,
        real: RealData,
        state: State,
    ) -> None:
        self.source, self.images, self.real = source, images, real
        self.network = self._fresh(0)
        if state:
            self.network.load_state_dict(state["network"])

    def take(self, index: int, small: Learned) -> Network:
        if index % self.source.outer == 0:
            self.network = self._fresh(index // self.source.outer)
        else:
            self.network.requires_grad_(True)
            rng = derive(self.real.seed, "inner training", index)
            train(self.network, self._data(small, rng), self.source.recipe, rng)
        return self.network.requires_grad_(False)

    def _fresh(self, number: int) -> Network:
        return self.real.fresh(self.source.architecture, "network", number)

    def _data(self, small: Learned, rng: torch.Generator) -> LabelledImages:
        if self.images is None:
            return small.as_images()
        return self.real.mixed(self.images, rng)

    def state(self) -> dict[str, Any]:
        return {"network": {k: v.clone() for k, v in self.network.state_dict().items()}}


@final
@dataclass(frozen=True)
class Pool(NetworkSource):
    """Several networks in training on the set, each replaced after some steps (FRePo).

    Attributes:
        architecture: What they are.
        size: Networks, >= 1; 10 in FRePo.
        most: Training steps after which one is replaced, >= 1; 100 in FRePo.
        learning_rate: Of their Adam steps, > 0; 3e-4 in FRePo.
        batch: Images of such a step, >= 1; 1,000 in FRePo.
    """

    architecture: Architecture
    size: int
    most: int
    learning_rate: float
    batch: int

    def __post_init__(self) -> None:
        for name in ("size", "most", "batch"):
            whole(f"network_source.{name}", getattr(self, name), 1)
        positive("network_source.learning_rate", self.learning_rate)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work."""
        return _Pooled(self, real, state)


class _Pooled(Networks):
    """Network k of the pool is trained after each step that it served, on the set as it is then."""

    def __init__(self, pool: Pool, real: RealData, state: State) -> None:
        self.pool, self.real = pool, real
        self.number = [int(n) for n in state.get("number", range(pool.size))]
        # Ages are staggered at first, so that the pool is never all young.
        self.age = [
            int(a) for a in state.get("age", (k * pool.most // pool.size for k in range(pool.size)))
        ]
        self.networks = [self._fresh(number) for number in self.number]
        self.optimisers = [self._optimiser(network) for network in self.networks]
        for k, saved in enumerate(state.get("networks", [])):
            self.networks[k].load_state_dict(saved)
            self.optimisers[k].load_state_dict(copy.deepcopy(state["optimisers"][k]))
        self.served: int | None = state.get("served")

    def take(self, index: int, small: Learned) -> Network:
        rng = derive(self.real.seed, "pool", index)
        if self.served is not None:
            self._train(self.served, small, rng)
        self.served = int(torch.randint(self.pool.size, (1,), generator=rng))
        return self.networks[self.served].requires_grad_(False)

    def _train(self, k: int, small: Learned, rng: torch.Generator) -> None:
        if self.age[k] >= self.pool.most:
            self.age[k], self.number[k] = 0, self.number[k] + self.pool.size
            self.networks[k] = self._fresh(self.number[k])
            self.optimisers[k] = self._optimiser(self.networks[k])
            return
        self.age[k] += 1
        network = self.networks[k].requires_grad_(True)
        rows = torch.randperm(len(small), generator=rng)[: self.pool.batch]
        targets = scores(small.targets(rows), self.real.num_classes)
        loss = (network(small.images(rows)) - targets).square().sum(1).mean()
        self.optimisers[k].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers[k].step()

    def _fresh(self, number: int) -> Network:
        return self.real.fresh(self.pool.architecture, "network", number)

    def _optimiser(self, network: Network) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), lr=self.pool.learning_rate)

    def state(self) -> dict[str, Any]:
        return {
            "number": list(self.number),
            "age": list(self.age),
            "networks": [
                {k: v.clone() for k, v in network.state_dict().items()} for network in self.networks
            ],
            "optimisers": [copy.deepcopy(o.state_dict()) for o in self.optimisers],
            "served": self.served,
        }
