"""The optimisers that move a synthetic set, each kind of number at its own pace."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor

from distill.checks import below_one, listed, one_of, positive
from distill.learned import LABELS, RATES


class Optimiser(ABC):
    """Makes the optimiser of a set's numbers. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def build(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """Returns torch's optimiser, one group for each of the named parameters.

        Raises:
            ValueError: If a step size is given to a name that no parameter has.
        """


@final
@dataclass(frozen=True)
class SGD(Optimiser):
    """Stochastic gradient descent.

    Attributes:
        learning_rate: Step size, > 0.
        momentum: In [0, 1).
        rates: Other step sizes, by the parameter's name (without a decoder's position).
    """

    learning_rate: float
    momentum: float
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, self.rates)
        below_one("optimiser.momentum", self.momentum)

    def build(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """Returns the optimiser."""
        groups = _groups(parameters, self.learning_rate, self.rates)
        return torch.optim.SGD(groups, lr=self.learning_rate, momentum=self.momentum)


@final
@dataclass(frozen=True)
class Adam(Optimiser):
    """Adam (Kingma and Ba, ICLR 2015): steps of one size, whatever the gradient's scale.

    Attributes:
        learning_rate: Step size, > 0.
        betas: Decay of the two moments, each in [0, 1).
        rates: Other step sizes, by the parameter's name (without a decoder's position).
    """

    learning_rate: float
    betas: Sequence[float] = (0.9, 0.999)
    rates: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_rates(self.learning_rate, self.rates)
        listed("optimiser.betas", self.betas)
        if len(self.betas) != 2:
            raise ValueError(f"optimiser.betas must be two numbers, got {list(self.betas)}")
        for beta in self.betas:
            below_one("optimiser.betas", beta)

    def build(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        """Returns the optimiser."""
        groups = _groups(parameters, self.learning_rate, self.rates)
        first, second = self.betas
        return torch.optim.Adam(groups, lr=self.learning_rate, betas=(first, second))


def _check_rates(learning_rate: float, rates: Mapping[str, float]) -> None:
    positive("optimiser.learning_rate", learning_rate)
    if not isinstance(rates, Mapping):
        raise TypeError(f"optimiser.rates must map names to step sizes, got {rates!r}; take {{}}")
    for name, rate in rates.items():
        positive(f"optimiser.rates.{name}", rate)


def _groups(
    parameters: Mapping[str, Tensor], rate: float, rates: Mapping[str, float]
) -> list[dict[str, object]]:
    # Presets give step sizes to labels and rates, which a setting may keep from being learned.
    known = {name.rpartition(".")[2] for name in parameters} | {LABELS, RATES}
    for name in rates:
        one_of("parameter in optimiser.rates", name, known)
    return [
        {"params": [value], "lr": rates.get(name.rpartition(".")[2], rate)}
        for name, value in parameters.items()
    ]
