"""Local training and averaging of weights: what FedAvg and its kin share on either side."""

from collections.abc import Iterable, Mapping
from typing import final

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord
from torch import nn

from distill.training import Additions, Recipe, train
from distill.work import training
from fedcl.federated.base import (
    MODEL,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)
from fedcl.wire import check_weights, pack_weights

Arrays = Mapping[str, npt.NDArray[np.floating]]


class LocalTraining(FederatedMethod):
    """A method whose clients train the global network, each on its own images.

    Attributes:
        local: How a client trains in one round.
    """

    local: Recipe


@final
class RunningMean:
    """A weighted mean of arrays that come one after the other, summed in float64; none is kept.

    Attributes:
        weight: The sum of the weights so far.
    """

    def __init__(self) -> None:
        self.weight = 0.0
        self._sums: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, arrays: Arrays, weight: float) -> None:
        """Adds arrays of the same names and shapes each time."""
        self.weight += weight
        for name, array in arrays.items():
            scaled = array.astype(np.float64) * weight
            self._sums[name] = self._sums[name] + scaled if name in self._sums else scaled

    def mean(self) -> dict[str, npt.NDArray[np.float64]]:
        """Returns the mean, once something was added."""
        return {name: summed / self.weight for name, summed in self._sums.items()}


def trained(task: LocalTask, local: Recipe, additions: Additions | None = None) -> Records:
    """Returns the weights that came, trained on the client's images, as it sends them.

    Args:
        task: The client's round.
        local: How it trains.
        additions: What a method adds to that.
    """
    network = task.network()
    train(network, task.data, local, task.rng, additions)
    return sent(network)


def sent(network: nn.Module) -> Records:
    """Returns a trained network as a client sends it.

    Raises:
        FloatingPointError: If a weight isn't finite, so that the client fails and keeps the state
            that it had; with one of such a round it would fail for ever.
    """
    if not all(weight.isfinite().all() for weight in network.state_dict().values()):
        raise FloatingPointError(
            "trained weights must stay finite, got NaN or infinity; lower training.learning_rate"
        )
    return {MODEL: pack_weights(network)}


def sketched(task: LocalTask, local: Recipe, additions: Additions | None = None) -> Sketch:
    """Returns :func:`trained` without its work: the weights as they came, and the training."""
    work = training("local training", task.network, task.data, local, additions)
    return Sketch({MODEL: task.received[MODEL]}, [work])


def weighted_mean(uploads: Iterable[Upload]) -> ArrayRecord:
    """Returns the mean of the clients' weights, each weighted by its images, as float32."""
    mean = RunningMean()
    for upload in uploads:
        mean.add(arrays_of(upload.arrays), upload.examples)
    return packed(mean.mean())


def check_network(upload: Upload, server: ServerTask) -> None:
    """Refuses all but weights of the names, shapes and types of the server's, and finite.

    Raises:
        BadUploadError: Saying which rule is broken.
    """
    upload.check_names(MODEL)
    check_weights(upload.arrays, server.weights)


def arrays_of(record: ArrayRecord) -> dict[str, npt.NDArray[np.floating]]:
    """Returns the arrays of a record by name."""
    return {name: array.numpy() for name, array in record.items()}


def packed(arrays: Arrays) -> ArrayRecord:
    """Returns arrays as a record of weights, float32."""
    return ArrayRecord({name: Array(array.astype(np.float32)) for name, array in arrays.items()})
