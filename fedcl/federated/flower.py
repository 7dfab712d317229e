r"""A strategy of Flower's own as the server half: clients train as in FedAvg, it aggregates.

FedAvg, FedAdam, FedMedian, Krum and whatever else subclasses Flower's ``Strategy`` and takes
one record of weights and ``num-examples`` from each client.

References:
    | Flower: A Friendly Federated Learning Framework (Beutel et al., 2020)
    | https://arxiv.org/abs/2007.14390
    | The papers that Flower's documentation names for each strategy.

Differences from Flower: clients are chosen by this project's rules, not by the strategy, which
sees only uploads that passed the checks; weights go back to float32 after every round, where
Flower's FedAdam puts out float64 and would double the next download; what a strategy draws from
NumPy, such as the noise of differential privacy at the server, follows the run's seed. A strategy
that asks something of clients (FedProx, clipping at the clients) is refused, as they don't hear it.
"""

import copy
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast, final

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import Strategy

from distill.checks import one_of, whole
from distill.rng import subseed
from distill.training import Recipe
from fedcl.federated.averaging import (
    LocalTraining,
    arrays_of,
    check_network,
    packed,
    sketched,
    trained,
)
from fedcl.federated.base import (
    MODEL,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)

# Those of Flower's that need no argument, and nothing of clients but their weights.
STRATEGIES = (
    *("Bulyan", "FedAdagrad", "FedAdam", "FedAvg", "FedAvgM", "FedMedian", "FedTrimmedAvg"),
    *("FedYogi", "Krum", "MultiKrum"),
)
RECORD = "flwr.app.ArrayRecord"  # before the arrays of one, in what is kept


@final
@dataclass(frozen=True)
class FlowerStrategy(LocalTraining):
    """FedAvg's clients, and one of Flower's strategies at the server.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        strategy: As it is before the first round, or the name of one of Flower's, as it comes; it
            is copied, never changed.
    """

    rounds: int
    local: Recipe
    strategy: Strategy | str
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        if isinstance(self.strategy, str):
            one_of("federated.strategy", self.strategy, STRATEGIES)
        share = getattr(self.strategy, "fraction_train", 1.0)
        if share != 1.0:
            raise ValueError(
                f"federated.strategy.fraction_train must be 1, got {share}: clients are chosen by "
                f"participation={share}"
            )

    def _begun(self) -> Strategy:
        """Returns the strategy as it is before the first round."""
        if isinstance(self.strategy, str):
            return cast(Strategy, getattr(strategies, self.strategy)())
        return copy.deepcopy(self.strategy)

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights.

        Raises:
            ValueError: If the strategy asks more of clients than training, waits for more of
                them, or sends messages of its own.
        """
        nodes = range(1, len(server.world.clients) + 1)
        self._configured(self._begun(), server, nodes)
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after local training."""
        return trained(task, self.local)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, and local training."""
        return sketched(task, self.local)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with what the strategy makes of the uploads, and what it keeps.

        Raises:
            ValueError: If the strategy returns no weights, waits for more clients, sends messages
                of its own, or changes what isn't kept from round to round.
        """
        strategy = self._begun()
        _restore(strategy, server.kept)
        before = copy.deepcopy(strategy)
        replies = [_reply(upload) for upload in uploads]
        self._configured(strategy, server, [upload.metadata.src_node_id for upload in replies])
        with _seeded(subseed(server.world.seed, "flower", server.round)):
            aggregated, _ = strategy.aggregate_train(server.round, replies)
        if aggregated is None:
            raise ValueError(
                f"federated.strategy must return weights, got None from {len(replies)} uploads; "
                f"{type(strategy).__name__} may need more clients"
            )
        return replace(server, weights=packed(arrays_of(aggregated)), kept=_kept(strategy, before))

    def _configured(self, strategy: Strategy, server: ServerTask, nodes: Iterable[int]) -> None:
        """Lets the strategy begin its round."""
        asked = strategy.configure_train(
            server.round, server.weights, ConfigRecord(), _Nodes(nodes)
        )
        for message in asked:
            config = [key for record in message.content.config_records.values() for key in record]
            others = sorted(set(config) - {"server-round"})
            if others:
                raise ValueError(
                    f"federated.strategy must leave training to the clients, but "
                    f"{type(strategy).__name__} sends them {', '.join(others)}, which they don't "
                    "heed; take another strategy, or a method of this project, as fedprox"
                )


def _reply(upload: Upload) -> Message:
    content = RecordDict(
        {MODEL: upload.arrays, "metrics": MetricRecord({"num-examples": upload.examples})}
    )
    asked = Message(RecordDict(), dst_node_id=upload.client + 1, message_type="train")
    return Message(content, reply_to=asked)


def _kept(strategy: Strategy, before: Strategy) -> dict[str, Any]:
    """Returns what a strategy may have changed in a round, by name, as checkpoints keep it.

    Args:
        strategy: As it is after the round; a strategy that it wraps counts as a part of it.
        before: As it was.

    Raises:
        ValueError: If something has changed that can't be kept.
    """
    kept = dict[str, Any]()
    for name, value in vars(strategy).items():
        was = vars(before).get(name)
        if isinstance(value, Strategy) and isinstance(was, Strategy):
            kept[name] = _kept(value, was)
            continue
        try:
            kept[name] = _saved(value)
        except TypeError as error:
            if _looks(value) != _looks(was):
                raise ValueError(
                    "federated.strategy must change only numbers, arrays, and lists and mappings "
                    f"of them, got {error} in {type(strategy).__name__}.{name}"
                ) from error
    return kept


def _restore(strategy: Strategy, kept: Mapping[str, Any]) -> None:
    for name, value in kept.items():
        inner = vars(strategy).get(name)
        if isinstance(inner, Strategy):
            _restore(inner, value)
        else:
            setattr(strategy, name, _loaded(value))


def _saved(value: Any) -> Any:
    """Returns a value as tensors and plain values.

    Raises:
        TypeError: If it holds something else than numbers, words, arrays and their records.
    """
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.array(value))
    if value is None or isinstance(value, int | float | str):
        return value
    if type(value) in (list, tuple):
        return type(value)(map(_saved, value))
    if type(value) is dict:
        return {key: _saved(part) for key, part in value.items()}
    if isinstance(value, ArrayRecord):
        return {RECORD: _saved(arrays_of(value))}
    raise TypeError(f"a {type(value).__name__}")


def _loaded(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy().copy()
    if isinstance(value, list | tuple):
        return type(value)(map(_loaded, value))
    if isinstance(value, Mapping):
        if RECORD in value:
            return ArrayRecord({k: Array(array) for k, array in _loaded(value[RECORD]).items()})
        return {key: _loaded(part) for key, part in value.items()}
    return value


def _looks(value: Any) -> bytes | None:
    """Returns what tells a change of a value; None where nothing does, as of functions."""
    try:
        return pickle.dumps(value)
    except (pickle.PicklingError, TypeError, AttributeError):
        return None


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, which Flower's strategies draw from, and puts it back."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


@final
class _Nodes(Grid):
    """Nodes to choose from, where Flower's strategies wait for as many as they want."""

    PATIENCE = 10  # calls; a strategy that still waits would wait for ever

    def __init__(self, nodes: Iterable[int]) -> None:
        self.nodes, self.calls = list(nodes), 0

    def get_node_ids(self) -> Iterable[int]:
        """Returns the nodes.

        Raises:
            ValueError: If it is asked again and again.
        """
        self.calls += 1
        if self.calls > self.PATIENCE:
            raise ValueError(
                f"federated.strategy must do with {len(self.nodes)} clients, but waits for more; "
                "lower its min_available_nodes and min_train_nodes, or take more clients"
            )
        return self.nodes

    def set_run(self, run: Any) -> None:
        """Takes no run."""

    @property
    def run(self) -> Any:
        """No run."""
        return None

    def create_message(self, *args: Any, **kwargs: Any) -> Message:  # noqa: ARG002
        """Refuses to make one, or to carry any.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "federated.strategy must only choose nodes and aggregate, but sends messages itself; "
            "take another strategy"
        )

    push_messages = pull_messages = send_and_receive = create_message  # type: ignore[assignment]
