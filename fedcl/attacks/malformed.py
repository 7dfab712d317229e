"""Malformed uploads: the honest arrays with one flaw each, which the server's check must see."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray

from distill.checks import one_of, whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack
from fedcl.federated.base import FederatedMethod, LocalTask, Records


def _largest(array: NDArray[Any]) -> NDArray[Any]:
    floating = np.issubdtype(array.dtype, np.floating)
    return np.full_like(array, np.inf if floating else np.iinfo(array.dtype).max)


FLAWS: Mapping[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "not_a_number": lambda array: np.full(array.shape, np.nan, np.float32),
    "range": _largest,
    "type": lambda array: array.astype(np.float64),
    "shape": lambda array: array[..., None],
}


@final
@dataclass(frozen=True)
class Malformed(Attack):
    """Arrays that break a rule.

    Attributes:
        clients: How many are malicious, >= 0.
        flaw: ``not_a_number``, ``range``, ``type`` or ``shape``.
    """

    clients: int
    flaw: str
    small_sets: ClassVar[bool] = False
    outlives_compression: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        one_of("attack.flaw", self.flaw, FLAWS)

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:
        """Returns the honest records, every array spoilt."""
        honest, spoil = method.local_update(task), FLAWS[self.flaw]
        return {
            name: ArrayRecord({key: Array(spoil(array.numpy())) for key, array in record.items()})
            for name, record in honest.items()
        }

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> None:
        """Returns None: the round is to be disturbed, whatever is answered."""
