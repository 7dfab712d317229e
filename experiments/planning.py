"""``fedcl plan``: what a run, or a comparison, would send, hold and take, told in seconds."""

import statistics
from collections.abc import Iterator, Sequence

from tqdm import tqdm

from experiments.build import Plan, plan
from experiments.cli import KINDS
from experiments.compare import Arm, Comparison
from experiments.errors import CommandError
from experiments.forecast import Forecast, Prediction
from experiments.reporting.numbers import UNITS, bytes_text, number_text
from experiments.run import folder_of, forecast
from experiments.spread import spread_text
from fedcl.heterogeneity import heterogeneity, quantity_skew

VERBS = ("distill", "federated", "continual", "federated-continual", "compare")
ROWS = {"continual": "experience", "distillation": "all"}


def planning(words: Sequence[str]) -> str:
    """Returns what ``fedcl plan VERB WORDS...`` prints.

    Raises:
        CommandError: If the verb can't be planned, or its words are wrong.
    """
    if not words or words[0] not in VERBS:
        name = repr(words[0]) if words else "nothing"
        raise CommandError(f"unknown verb {name} to plan; known: {', '.join(VERBS)}")
    verb, *rest = words
    if verb == "compare":
        return "\n".join(comparison_lines(Comparison.of(rest)))
    composed = plan(KINDS.get(verb, verb), rest)
    return "\n".join(run_lines(composed, forecast(composed)))


def run_lines(composed: Plan, foretold: Forecast) -> Iterator[str]:
    """Yields how images are spread over clients, and every prediction with its basis."""
    folder, counts = folder_of(composed), foretold.counts
    state = "completed, in" if folder.completed() else "to be run, into"
    yield f"{composed.name} on {composed.config['dataset']['name']}: {state} {folder.path}"
    yield ""
    yield spread_text(counts, ROWS.get(composed.kind, "client"))
    yield ""
    if len(counts) > 1:
        sizes = counts.sum(1).tolist()
        middle = f"{statistics.median(sizes):g}"
        yield f"{'images':<20} {min(sizes)} at least, {middle} in the middle, {max(sizes)} at most"
        yield f"{'heterogeneity':<20} {heterogeneity(counts):.2f}, of 0 where all are alike to 1"
        yield f"{'quantity skew':<20} {quantity_skew(counts):.2f}, of 0 where all have as many to 1"
    yield from map(_line, foretold.predictions)


def _line(prediction: Prediction) -> str:
    name = f"{prediction.name:<20}"
    if prediction.value is None:
        return f"{name} not predicted: {prediction.basis}"
    return f"{name} {_number(prediction):>10}  {prediction.basis}"


def _number(prediction: Prediction) -> str:
    text = number_text(prediction.value or 0.0, prediction.form)
    return f"{text} {UNITS.get(prediction.form, '')}".strip()


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Yields a line for each arm that isn't finished, and the sums."""
    left = _left(comparison.arms)
    runs, whole = sum(map(len, left.values())), len(comparison.arms)
    yield f"{comparison.title}\n{whole} runs, {whole - runs} of them finished"
    if not left:
        return
    shared = set.intersection(*map(set, left))
    yield f"\n{'left':>4} {'sent each':>10} {'time each':>10}  arm"
    times, held = list[float](), list[float]()
    for words, plans in tqdm(left.items(), "arms", disable=None, leave=False):
        foretold = forecast(plans[0])
        sent = [foretold.value(way) for way in ("up", "down")]
        seconds = foretold.value("time")
        name = " ".join(word for word in words if word not in shared)
        yield f"{len(plans):>4} {_sum_text(sent):>10} {_time_text(seconds):>10}  {name}"
        times += [] if seconds is None else [len(plans) * seconds]
        held.append(foretold.value("memory") or 0.0)
    without = f", without {len(left) - len(times)} arms" if len(times) < len(left) else ""
    jobs = f"{comparison.jobs} job{'s' * (comparison.jobs != 1)}"
    yield f"\ntime    {_time_text(sum(times) / comparison.jobs)} with {jobs}{without}"
    yield f"memory  {bytes_text(max(held))} a job at most"


def _left(arms: Sequence[Arm]) -> dict[tuple[str, ...], list[Plan]]:
    """Returns the runs that aren't finished, by the words that seeds share."""
    left = dict[tuple[str, ...], list[Plan]]()
    for arm in arms:
        composed = plan(arm.kind, arm.words)
        if not folder_of(composed).completed():
            left.setdefault((arm.verb, *arm.words[:-1]), []).append(composed)
    return left


def _sum_text(parts: Sequence[float | None]) -> str:
    known = [part for part in parts if part is not None]
    return bytes_text(sum(known)) if len(known) == len(parts) else "?"


def _time_text(seconds: float | None) -> str:
    """Returns seconds as a clock shows them.

    >>> _time_text(4), _time_text(3725)
    ('0:04', '1:02:05')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
