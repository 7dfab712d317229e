"""The forecast of a federation: bytes from a rehearsal, time from the work that it left undone."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence

from distill.images import LabelledImages
from distill.training import score
from experiments.backends.base import Federation
from experiments.forecast import Forecast, Prediction
from experiments.reporting.numbers import bytes_text
from experiments.scenarios.foretold import Times, memory, time_of
from fedcl.client_accuracy import client_counts
from fedcl.federated.base import World
from fedcl.federated.rehearsal import Rehearsal, Round, UnknownError, rehearse
from fedcl.federated.strategy import RoundFailedError

EXACT = "exact while no client fails"


def forecast(
    run: Federation,
    schedule: Sequence[Round],
    tests: Sequence[LabelledImages],
    after: Sequence[Times] = (),
    certainty: str = EXACT,
) -> Forecast:
    """Returns what a federation will send, hold and take.

    Args:
        run: With its data and its clients.
        schedule: All rounds, in their order.
        tests: What networks are scored on in the whole run.
        after: Work that follows the rounds.
        certainty: How surely these rounds, played so, send what the run will send.
    """
    counts = client_counts(run.world)
    try:
        rehearsal = rehearse(run.methods(), run.world, run.rules, run.channel, schedule)
    except UnknownError as error:
        unknown = [Prediction(n, None, "bytes", str(error)) for n in ("up", "down", "time")]
        return Forecast(counts, unknown)
    except RoundFailedError as error:
        raise ValueError(f"the run would fail: {error}") from error
    clock = time.perf_counter()
    score(rehearsal.simulation.task.model(), tests[0])
    a_score = (time.perf_counter() - clock) / len(tests[0])
    measured = {
        "messages": sum(report.totals["seconds"] for report in rehearsal.reports),
        "scoring": a_score * sum(map(len, tests)),
    }
    seconds = time_of([*rehearsal.work, *after], measured)
    sent = _sent(rehearsal, certainty)
    return Forecast(counts, [*sent, _held(run.world, rehearsal), *seconds])


def _sent(rehearsal: Rehearsal, how: str) -> Iterator[Prediction]:
    """Yields the bytes of all clients in each direction, and how they are known."""
    rounds = len(rehearsal.reports)
    if rehearsal.played < rounds:
        how = f"{rehearsal.played} of {rounds} rounds played, the others like them"
    for name, key in (("up", "bytes_up"), ("down", "bytes_down")):
        by_client = Counter[int]()
        for report in rehearsal.reports:
            by_client.update({row["client"]: row[key] for row in report.clients})
        least, most = (bytes_text(end(by_client.values())) for end in (min, max))
        each = least if least == most else f"{least} to {most}"
        yield Prediction(name, by_client.total(), "bytes", f"{how}; {each} a client")


def _held(world: World, rehearsal: Rehearsal) -> Prediction:
    images = (part.images for parts in world.clients for part in parts)
    data = sum(image.numel() * image.element_size() for image in images)
    blobs = (
        blob for _, state in rehearsal.simulation.grid.states.values() for blob in state.values()
    )
    rows = [row for report in rehearsal.reports for row in report.clients]
    largest = max(max(row["bytes_up"], row["bytes_down"]) for row in rows)
    parts = {"images": data, "clients' states": sum(map(len, blobs)), "a message": largest}
    return memory(", ".join(f"{name} {bytes_text(size)}" for name, size in parts.items()))
