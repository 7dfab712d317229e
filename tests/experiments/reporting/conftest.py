"""Records in memory, with numbers small enough to work out by hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.reporting.runs import Run
from experiments.reporting.sections import Section, sections


def made_run(name="dm", scenario="distillation", seed=0, config=None, **record) -> Run:
    settings = {"dataset": {"name": "digits"}, "seed": seed, **(config or {})}
    base = {"schema": 1, "scenario": scenario, "name": name, "seed": seed, "status": "completed"}
    return Run(Path(f"{name}-{seed}"), base | {"config": settings} | record)


@pytest.fixture
def run() -> Callable[..., Run]:
    """Returns what makes one run."""
    return made_run


@pytest.fixture
def three() -> Callable[..., list[Run]]:
    """Returns what makes one arm's three seeds; each metric is a list of three values."""

    def made(name="dm", scenario="distillation", config=None, **metrics) -> list[Run]:
        rows = [dict(zip(metrics, row, strict=True)) for row in zip(*metrics.values(), strict=True)]
        return [made_run(name, scenario, i, config, metrics=row) for i, row in enumerate(rows)]

    return made


@pytest.fixture
def rounds() -> Callable[..., Run]:
    """Returns what makes one federated run of 150 bytes a round, of 1000 bytes of images."""

    def made(name, accuracies, seed=0, first=1, config=None) -> Run:
        history = [
            {"round": i, "accuracy": a, "bytes_up": 100, "bytes_down": 50}
            for i, a in enumerate(accuracies, first)
        ]
        count = len(history)
        metrics = {"accuracy": accuracies[-1], "bytes_up": 100 * count, "bytes_down": 50 * count}
        metrics |= {"rounds": count, "raw_bytes": 1000}
        return made_run(name, "federated", seed, config, metrics=metrics, history=history)

    return made


@pytest.fixture
def section() -> Callable[..., Section]:
    """Returns what makes the one section of some runs."""

    def made(*runs: Run) -> Section:
        (only,) = sections(runs)
        return only

    return made
