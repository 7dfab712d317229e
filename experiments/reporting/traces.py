"""Arms as the traces of a chart: over bytes, rounds or seconds, or over what they store."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from experiments.reporting.arms import SIZES, Arm
from experiments.reporting.charts import Chart, Level, Trace, byte_tick, second_tick
from experiments.reporting.runs import Array, Run
from experiments.reporting.sections import Section
from experiments.reporting.styles import Palette, Style
from fedcl.statistics import Interval, mean_interval


@final
@dataclass(frozen=True)
class Axis:
    """What adds up with the rounds of a run.

    Attributes:
        title: What it is.
        so_far: Returns it up to each round's end, ``(rounds,)``.
        ticks: How a logarithmic axis writes a number; None: the axis is a count.
    """

    title: str
    so_far: Callable[[Run], Array]
    ticks: Callable[[float], str] | None = None


def over_rounds(arms: Sequence[Arm], looks: Mapping[str, Style], axis: Axis) -> Chart:
    """Returns iterative arms as curves and one-shot arms as points, over what adds up."""
    curves = [curve(a, looks[a.label], axis) for a in arms if a.iterative]
    points = [_point(a, looks[a.label], axis) for a in arms if not a.iterative]
    traces = [trace for trace in (*curves, *points) if len(trace.x)]
    single = [trace for trace in points if len(trace.x)] if curves else []
    levels = tuple(Level("", trace.style, float(trace.mean[0])) for trace in single)
    return Chart(axis.title, "test accuracy", tuple(traces), levels, axis.ticks)


def curve(arm: Arm, style: Style, axis: Axis) -> Trace:
    """Returns an arm's accuracy over what adds up with its rounds, as a band.

    A seed that has ended stays where it is, so that the last point is what the arm took in all.
    """
    accuracy = _padded([run.curve("accuracy") for run in arm.runs])
    x = _padded([axis.so_far(run) for run in arm.runs]).mean(axis=0)
    kept = np.isfinite(accuracy).all(axis=0) & np.isfinite(x)
    intervals = [mean_interval(column) for column in accuracy.T[kept].tolist()]
    trace = Trace.through(arm.label, style, zip(x[kept], intervals, strict=True))
    return replace(trace, band=True)


def _padded(columns: Sequence[Array]) -> Array:
    """Returns the columns as rows of one length, each with its last value to the end."""
    length = max(map(len, columns))
    return np.array([np.pad(column, (0, length - len(column)), "edge") for column in columns])


def positions(run: Run) -> Array:
    """Returns where each round stands: its number or, on a stream, the experiences learned.

    An experience is one long, whatever its rounds, so that the curves of arms that take
    different numbers of rounds turn at the same places. A round that fills memories stands where
    the one before it does, whose number it has.
    """
    rounds = run.curve("round")
    if run.scenario != "federated_continual":
        return rounds
    experience = run.curve("experience")
    _, firsts, counts = np.unique(experience, return_index=True, return_counts=True)
    before = np.repeat(rounds[firsts] - 1, counts)
    last = np.repeat(rounds[firsts + counts - 1], counts)
    return experience + (rounds - before) / (last - before)


ROUNDS = Axis("round", positions)
BYTES = Axis("bytes sent so far, both directions (log scale)", Run.bytes_so_far, byte_tick)
SECONDS = Axis("simulated seconds so far (log scale)", Run.seconds_so_far, second_tick)


def _point(arm: Arm, style: Style, axis: Axis) -> Trace:
    accuracy = arm.interval("accuracy")
    ends = [float(axis.so_far(run)[-1]) for run in arm.runs if run.history]
    x = sum(ends) / len(ends) if ends else math.nan
    return Trace.through(arm.label, style, [(x, accuracy)] if accuracy and x > 0 else [])


def over_stored(section: Section, palette: Palette, x_key: str, y_key: str) -> Chart:
    """Returns a metric over stored bytes, one trace for each method through all its sizes.

    Bounds, and what stores nothing, are levels.
    """
    looks = palette.of_arms(section.arms, *SIZES)
    points: dict[str, list[tuple[float, Interval]]] = {}
    levels = []
    for arm in section.arms:
        label = arm.label_without(*SIZES)
        x, y = arm.mean(x_key), arm.interval(y_key)
        if y and (arm.bound or x == 0):
            levels.append(Level(label, looks[label], y.mean))
        elif x and y:
            points.setdefault(label, []).append((x, y))
    traces = [Trace.through(label, looks[label], found) for label, found in points.items()]
    return Chart("", "", tuple(apart(traces)), tuple(levels), byte_tick)


def apart(traces: Sequence[Trace]) -> list[Trace]:
    """Returns traces on a log axis moved sideways by a few percent where positions coincide."""
    positions = [f"{x:.2g}" for trace in traces for x in trace.x]
    if len(set(positions)) == len(positions):
        return list(traces)
    middle = (len(traces) - 1) / 2
    step = min(1.05, 1.3 ** (1 / len(traces)))
    return [replace(t, x=t.x * step ** (i - middle)) for i, t in enumerate(traces)]
