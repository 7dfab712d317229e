"""Published values stand beside the means of the runs that measure them."""

from pathlib import Path

import pytest

from experiments.errors import CommandError
from experiments.reporting.published import Published, published_values
from experiments.reporting.runs import Run
from fedcl.statistics import Interval

ENTRY = {
    "words": "continual=gdumb buffer.images=500",
    "metric": "average_accuracy",
    "value": 0.9,
    "within": 0.02,
    "source": "a table",
}


def run(words: str, accuracy: float | None, status: str = "completed") -> Run:
    record = {
        "command": f"fedcl continual {words}",
        "status": status,
        "metrics": {"average_accuracy": accuracy},
    }
    return Run(Path(), record)


RUNS = [
    run("buffer.images=500 continual=gdumb seed=0", 0.89),
    run("continual=gdumb buffer.images=500 seed=1", 0.91),
    run("continual=gdumb buffer.images=5000 seed=0", 0.5),
    run("continual=gdumb buffer.images=500 seed=2", 0.1, status="failed"),
    run("continual=gdumb buffer.images=500 seed=3", None),
]


def test_the_runs_whose_commands_have_all_words_are_averaged():
    (row,) = published_values([Published.of(ENTRY)], RUNS).rows
    words, metric, seeds, measured, published, verdict, source = row
    assert (words, metric, seeds) == (ENTRY["words"], "average accuracy", 2.0)
    assert isinstance(measured, Interval)
    assert measured.mean == pytest.approx(0.9)
    assert (published, verdict, source) == (0.9, "reproduced", "a table")


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (0.92, "reproduced"),  # at the distance
        (0.88, "reproduced"),
        (0.93, "3.0 points above"),
        (0.865, "not reproduced: 3.5 points below"),
    ],
)
def test_the_verdict_is_the_distance_s(mean, verdict):
    assert Published.of(ENTRY).verdict(mean) == verdict


def test_without_a_run_that_measures_it_a_value_is_left_out():
    assert published_values([Published.of(ENTRY)], RUNS[2:]) is None
    other = Published.of(ENTRY | {"words": "continual=lwf"})
    assert len(published_values([Published.of(ENTRY), other], RUNS).rows) == 1


def test_an_entry_with_other_keys_is_refused():
    with pytest.raises(CommandError, match="keys metric, source, value, within, words, got metric"):
        Published.of({"metric": "accuracy"})
