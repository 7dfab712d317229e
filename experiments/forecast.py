"""A forecast: what a run will send, hold and take, told before it is made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor

from experiments.reporting.numbers import Form


@final
@dataclass(frozen=True)
class Prediction:
    """One number of a run that has not been made.

    Attributes:
        name: What is predicted; two spaces before the parts of what stands above.
        value: The number; None where it can't be told.
        form: What the number is.
        basis: Where it comes from, in a few words, or why it can't be told.
    """

    name: str
    value: float | None
    form: Form
    basis: str


@final
@dataclass(frozen=True)
class Forecast:
    """What is known of a run before it is made.

    Attributes:
        counts: Images of each client and class, ``(clients, classes)``; one row where there are
            no clients.
        predictions: The numbers, in the order of reading.
    """

    counts: Tensor
    predictions: Sequence[Prediction]

    def value(self, name: str) -> float | None:
        """Returns the prediction of that name, or None."""
        return next((p.value for p in self.predictions if p.name == name), None)
