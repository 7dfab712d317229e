"""The loop of rounds, on any grid and with any Flower strategy; it can start in the middle."""

from collections.abc import Iterator

from flwr.app import ArrayRecord, ConfigRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy


def run_rounds(
    grid: Grid, strategy: Strategy, arrays: ArrayRecord, numbers: range
) -> Iterator[tuple[int, ArrayRecord]]:
    """Yields the number and the new global weights of each round.

    Flower's ``Strategy.start`` always begins at round 1 and tells nothing between rounds; this
    loop calls the same methods in the same order.

    Args:
        grid: Where messages go.
        strategy: Whom it asks, and what it makes of the replies.
        arrays: Weights before the first of these rounds.
        numbers: The rounds to run; 1 is the first of a run.
    """
    for number in numbers:
        messages = strategy.configure_train(number, arrays, ConfigRecord(), grid)
        replies = grid.send_and_receive(messages)
        aggregated, _ = strategy.aggregate_train(number, replies)
        arrays = arrays if aggregated is None else aggregated
        yield number, arrays
