"""Traces hold the records' numbers."""

import numpy as np

from experiments.reporting.arms import group
from experiments.reporting.charts import Trace
from experiments.reporting.styles import Palette, Style
from experiments.reporting.traces import (
    BYTES,
    ROUNDS,
    SECONDS,
    apart,
    curve,
    over_rounds,
    over_stored,
    positions,
)

RED = Style("#ff0000", 0, 0)


def trace(x, label="a") -> Trace:
    x = np.array(x, dtype=float)
    return Trace(label, RED, x, 0.5 + 0 * x, 0 * x)


def test_curve_is_the_mean_over_seeds_at_the_cumulative_bytes(rounds):
    accuracies = [[0.25, 0.5], [0.5, 0.75], [0.75, 1.0]]
    (arm,) = group([rounds("fedavg", a, seed=i) for i, a in enumerate(accuracies)])
    line = curve(arm, RED, BYTES)
    np.testing.assert_allclose(line.x, [150, 300])
    np.testing.assert_allclose(line.mean, [0.5, 0.75])
    # Three values 0.25 apart: s = 0.25, half width = t(0.975, 2) * s / sqrt 3.
    np.testing.assert_allclose(line.half, [4.302653 * 0.25 / 3**0.5] * 2, rtol=1e-6)


def test_curve_of_two_seeds_has_no_band(rounds):
    (arm,) = group([rounds("fedavg", [0.25, 0.5], seed=0), rounds("fedavg", [0.75, 1.0], seed=1)])
    np.testing.assert_array_equal(curve(arm, RED, BYTES).half, [0, 0])


def timed(run, name, accuracies, seconds, **extra):
    """A federated run whose rounds took those simulated seconds."""
    history = [
        {"round": i, "accuracy": accuracy, "bytes_up": 1, "bytes_down": 1, "simulated_seconds": s}
        for i, (accuracy, s) in enumerate(zip(accuracies, seconds, strict=True), 1)
    ]
    metrics = {"accuracy": accuracies[-1], "simulated_seconds": sum(seconds)}
    return run(name, "federated", metrics=metrics, history=history, **extra)


def test_curve_over_seconds_is_at_the_mean_of_what_the_rounds_took(run):
    # Ends of the rounds: 2 and 5 seconds, 4 and 9 seconds.
    seeds = [timed(run, "fedavg", [0.25, 0.5], [2.0, 3.0], seed=0)]
    seeds += [timed(run, "fedavg", [0.5, 0.75], [4.0, 5.0], seed=1)]
    (arm,) = group(seeds)
    line = curve(arm, RED, SECONDS)
    np.testing.assert_array_equal(line.x, [3, 7])
    np.testing.assert_array_equal(line.mean, [0.375, 0.625])


def test_one_shot_stands_at_its_seconds_and_runs_without_time_nowhere(rounds, run, section):
    found = section(
        rounds("fedavg", [0.25, 0.5]),
        rounds("one_shot-random", [0.25]),
        timed(run, "one_shot-dm", [0.75], [8.0]),
    )
    looks = Palette.of(["dm"]).of_arms(found.arms)
    (only,) = over_rounds(found.arms, looks, SECONDS).traces
    assert (only.label, only.x.tolist(), only.mean.tolist()) == ("one_shot-dm", [8.0], [0.75])


def test_curve_over_rounds_starts_at_the_recorded_round(rounds):
    (arm,) = group([rounds("fedavg", [0.25, 0.5, 0.75], first=0)])
    np.testing.assert_array_equal(curve(arm, RED, ROUNDS).x, [0, 1, 2])


def test_rounds_of_an_experience_share_its_length_and_one_that_fills_memories_adds_none(run):
    # Two rounds in experience 0, four in experience 1; memories are filled after either.
    stands = {(0, 1): 0.5, (0, 2): 1, (1, 3): 1.25, (1, 4): 1.5, (1, 5): 1.75, (1, 6): 2}
    places = [(0, 1), (0, 2), (0, 2), (1, 3), (1, 4), (1, 5), (1, 6), (1, 6)]
    history = [{"experience": e, "round": r, "accuracy": 0.5} for e, r in places]
    found = run("shared_buffer-dm", "federated_continual", history=history)
    np.testing.assert_array_equal(positions(found), [stands[place] for place in places])


def test_a_seed_that_reached_its_target_stays_where_it_ended(rounds):
    # A round is 150 bytes: after three, 450 and 150.
    (arm,) = group([rounds("fedavg", [0.25, 0.5, 0.75]), rounds("fedavg", [0.75], seed=1)])
    assert arm.iterative
    line = curve(arm, RED, BYTES)
    np.testing.assert_array_equal(line.x, [150, 225, 300])
    np.testing.assert_array_equal(line.mean, [0.5, 0.625, 0.75])
    assert line.x[-1] == arm.mean("bytes_total")


def test_one_shot_arms_are_points_prolonged_by_a_level(rounds, section):
    found = section(rounds("fedavg", [0.25, 0.5]), rounds("one_shot-dm", [0.75]))
    chart = over_rounds(found.arms, Palette.of([]).of_arms(found.arms), BYTES)
    lines, points = [t for t in chart.traces if t.band], [t for t in chart.traces if not t.band]
    assert [t.label for t in lines] == ["fedavg"]
    assert [(t.label, t.x[0], t.mean[0]) for t in points] == [("one_shot-dm", 150.0, 0.75)]
    assert [(level.label, level.value) for level in chart.levels] == [("", 0.75)]


def test_bounds_are_levels_and_budgets_are_joined(run, section):
    def arm(name, images, accuracy):
        metrics = {"average_accuracy": accuracy, "buffer_bytes": 65 * images}
        return run(name, "continual", config={"buffer": {"images": images}}, metrics=metrics)

    found = section(arm("naive", 0, 0.2), arm("replay-dm", 50, 0.75), arm("replay-dm", 20, 0.5))
    chart = over_stored(found, Palette.of([]), "buffer_bytes", "average_accuracy")
    (only,) = chart.traces
    assert only.label == "replay-dm"
    np.testing.assert_array_equal(only.x, [1300, 3250])
    np.testing.assert_array_equal(only.mean, [0.5, 0.75])
    assert [(level.label, level.value) for level in chart.levels] == [("naive", 0.2)]


def test_what_stores_nothing_is_a_level(run, section):
    metrics = {"average_accuracy": 0.25, "buffer_bytes": 0}
    found = section(run("lwf", "continual", metrics=metrics))
    chart = over_stored(found, Palette.of(["lwf"]), "buffer_bytes", "average_accuracy")
    assert not chart.traces
    assert [(level.label, level.value) for level in chart.levels] == [("lwf", 0.25)]


def test_points_at_equal_positions_are_set_apart_and_others_stay():
    first, second = apart([trace([100.0]), trace([100.0])])
    assert first.x[0] < 100 < second.x[0] < 110
    assert [t.x[0] for t in apart([trace([100.0]), trace([200.0])])] == [100.0, 200.0]
