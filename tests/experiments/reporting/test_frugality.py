"""What sending less costs is told of the front, beside the best that sends more."""

import pytest

from experiments.reporting.frugality import frugality
from experiments.reporting.tables import Table
from fedcl.statistics import Interval

T2 = 4.302652729911275  # the 0.975 quantile of Student's t with two degrees of freedom


def rows_of(table: Table) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


@pytest.fixture
def arm(three):
    """Returns what makes the runs of one arm in three seeds."""

    def made(name, accuracies, sent, config=None):
        bytes_ = {"bytes_up": [sent / 2] * 3, "bytes_down": [sent / 2] * 3}
        return three(name, "federated", config, accuracy=accuracies, **bytes_)

    return made


def test_each_arm_of_the_front_meets_the_best_that_sends_more(arm, section):
    # 100 bytes against 400: 0.1, 0.2, 0.3 less, mean -0.2, d = 0.1. random lies below the front,
    # and fedprox, below fedavg, is not met; nothing sends more than 400.
    found = section(
        *arm("one_shot-dm", [0.6, 0.5, 0.4], 100),
        *arm("one_shot-random", [0.3, 0.3, 0.3], 100),
        *arm("fedprox", [0.6, 0.6, 0.6], 200),
        *arm("fedavg", [0.7, 0.7, 0.7], 400),
    )
    first, second = rows_of(frugality(found))
    assert (first["arm"], first["versus"]) == ("one_shot-dm", "fedavg")
    assert (first["sent"], first["versus_sent"], first["times"]) == (100, 400, 4)
    assert first["pairs"] == 3
    assert first["accuracy"].mean == pytest.approx(-0.2)
    assert first["accuracy"].half_width == pytest.approx(T2 * 0.1 / 3**0.5)
    assert (second["arm"], second["versus"]) == ("fedprox", "fedavg")
    assert second["accuracy"] == Interval(pytest.approx(-0.1), pytest.approx(0), 3)


def test_other_conditions_and_equal_bytes_are_not_met(arm, section):
    alphas = [{"partition": {"alpha": alpha}} for alpha in (0.1, 0.5)]
    found = section(
        *arm("one_shot-dm", [0.5] * 3, 1000, alphas[0]),
        *arm("one_shot-random", [0.6] * 3, 1019, alphas[0]),
        *arm("fedavg", [0.9] * 3, 4000, alphas[1]),
    )
    assert frugality(found) is None


def test_an_arm_of_one_seed_has_no_spread_to_be_judged_by(arm, section):
    alone = arm("fedavg", [0.9] * 3, 400)[:1]
    assert frugality(section(*arm("one_shot-dm", [0.5] * 3, 100), *alone)) is None
    both = arm("fedprox", [0.4] * 3, 200)
    (row,) = rows_of(frugality(section(*arm("one_shot-dm", [0.5] * 3, 100), *alone, *both)))
    assert row["versus"] == "fedprox"
