"""One shot against rounds, and methods against a random memory, agree with arithmetic."""

import pytest

from experiments.reporting.comparisons import bytes_to_reach, paired_with_random, reach
from experiments.reporting.summaries import summary
from experiments.reporting.tables import Table
from fedcl.statistics import Interval

# The 0.975 quantile of Student's t with two degrees of freedom; for values m - d, m, m + d the
# standard deviation is d, so the half width is T2 * d / sqrt(3).
T2 = 4.302652729911275


def rows_of(table: Table) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


def test_bytes_to_reach_is_the_first_round_at_that_accuracy(rounds, section):
    # A round is 150 bytes, raw images are 1000. One shot: 0.7 for 150 bytes, 15 % of raw. fedavg
    # reaches 0.7 in rounds 3 and 2: (450 + 300) / 2 = 375 bytes, of which 150 are 40 %; 0.90 after
    # four rounds, 600 bytes, of which they are 25 %.
    found = section(
        rounds("one_shot-dm", [0.7], seed=0),
        rounds("one_shot-dm", [0.7], seed=1),
        rounds("fedavg", [0.2, 0.6, 0.7, 0.95], seed=0),
        rounds("fedavg", [0.3, 0.8, 0.6, 0.91], seed=1),
        rounds("fedprox", [0.2, 0.3], seed=0),
        rounds("fedprox", [0.2, 0.8], seed=1),
    )
    rows = {row["by_rounds"]: row for row in rows_of(bytes_to_reach(found))}
    fedavg, fedprox = rows["fedavg"], rows["fedprox"]
    assert (fedavg["one_shot"], fedavg["accuracy"].mean) == ("one_shot-dm", 0.7)
    assert (fedavg["bytes"].mean, fedavg["raw_ratio"].mean) == (150.0, 0.15)
    assert (fedavg["equal_bytes"].mean, fedavg["equal_ratio"]) == (375.0, 0.4)
    assert (fedavg["mark_bytes"].mean, fedavg["mark_ratio"]) == (600.0, 0.25)
    assert (fedprox["equal_bytes"], fedprox["equal_ratio"]) == ("1 of 2 seeds reach it", None)
    assert (fedprox["mark_bytes"], fedprox["mark_ratio"]) == ("not within 300 B", None)


def test_arms_below_the_mark_say_so(rounds, section):
    low, high = rounds("one_shot-dm", [0.7]), rounds("one_shot-dm", [0.9])
    fedavg = rounds("fedavg", [0.2, 0.95])
    assert "compared there by bytes alone" in bytes_to_reach(section(low, fedavg)).notes[-1]
    assert len(bytes_to_reach(section(high, fedavg)).notes) == 1


def test_each_size_of_one_shot_is_a_row(rounds, section):
    sizes = [rounds("one_shot-dm", [0.1 * n], config={"ipc": n}) for n in (1, 5)]
    rows = rows_of(bytes_to_reach(section(*sizes, rounds("fedavg", [0.2, 0.95]))))
    assert [row["one_shot"] for row in rows] == ["one_shot-dm · ipc 5", "one_shot-dm · ipc 1"]


def test_only_arms_under_equal_conditions_are_compared(rounds, section):
    def under(alpha, name, accuracies):
        return rounds(name, accuracies, config={"partition": {"alpha": alpha}})

    found = section(
        under(0.1, "one_shot-dm", [0.25]),
        under(1.0, "one_shot-dm", [0.5]),
        under(0.1, "fedavg", [0.25, 0.3]),
        under(1.0, "fedavg", [0.4, 0.6]),
    )
    alpha = "\N{GREEK SMALL LETTER ALPHA}"
    rows = [(row["one_shot"], row["by_rounds"]) for row in rows_of(bytes_to_reach(found))]
    assert sorted(rows) == [
        (f"one_shot-dm · {alpha} 0.1", f"fedavg · {alpha} 0.1"),
        (f"one_shot-dm · {alpha} 1", f"fedavg · {alpha} 1"),
    ]
    # The best of each partition: fedavg in both.
    best = {found.arms[row].label for row, _ in summary(found).best}
    assert best == {f"fedavg · {alpha} 0.1", f"fedavg · {alpha} 1"}


def test_bytes_to_reach_needs_both_kinds(rounds, section):
    assert bytes_to_reach(section(rounds("fedavg", [0.1, 0.2]))) is None
    assert bytes_to_reach(section(rounds("one_shot-dm", [0.1]))) is None


def test_bytes_count_rounds_without_an_accuracy(rounds):
    skipping = rounds("fedavg", [None, 0.5, None, 0.9])
    assert reach(skipping, 0.9) == 600.0
    assert reach(skipping, 0.91) is None


def test_differences_from_random_are_paired_by_seed_and_budget(three, section):
    # Budget 20: 0.1, 0.2, 0.3 more than random, mean 0.2, d = 0.1, half width 0.248: not clear.
    # Budget 50: 0.1 more on each seed, half width 0: clear.
    small, large = {"buffer": {"images": 20}}, {"buffer": {"images": 50}}
    few, many = {"buffer_bytes": [1300] * 3}, {"buffer_bytes": [3250] * 3}
    found = section(
        *three("replay-random", "continual", small, average_accuracy=[0.3, 0.4, 0.5], **few),
        *three("replay-dm", "continual", small, average_accuracy=[0.4, 0.6, 0.8], **few),
        *three("replay-random", "continual", large, average_accuracy=[0.5, 0.25, 0.5], **many),
        *three("replay-dm", "continual", large, average_accuracy=[0.75, 0.5, 0.75], **many),
    )
    rows = {row["arm"]: row for row in rows_of(paired_with_random(found))}
    row = rows["replay-dm · 20 images"]
    assert (row["versus"], row["pairs"], row["clear"]) == ("replay-random · 20 images", 3.0, "no")
    assert row["average_accuracy"].mean == pytest.approx(0.2)
    assert row["average_accuracy"].half_width == pytest.approx(T2 * 0.1 / 3**0.5)
    assert rows["replay-dm · 50 images"]["average_accuracy"] == Interval(0.25, 0.0, 3)
    assert rows["replay-dm · 50 images"]["clear"] == "yes"


def test_a_budget_without_a_random_memory_has_no_difference(three, section):
    small, large = {"buffer": {"images": 20}}, {"buffer": {"images": 50}}
    few, many = {"buffer_bytes": [1300] * 3}, {"buffer_bytes": [3250] * 3}
    found = section(
        *three("replay-random", "continual", small, average_accuracy=[0.5] * 3, **few),
        *three("replay-dm", "continual", large, average_accuracy=[0.75] * 3, **many),
    )
    assert paired_with_random(found) is None


def test_only_seeds_of_both_arms_are_paired(three, section):
    found = section(
        *three("replay-random", "continual", average_accuracy=[0.25, 0.5, 0.25])[:2],
        *three("replay-dm", "continual", average_accuracy=[0.5, 0.75, 0.0])[1:],
    )
    (row,) = rows_of(paired_with_random(found))
    assert row["average_accuracy"] == Interval(0.25, None, 1)


def test_without_a_random_memory_there_are_no_differences(three, section):
    assert (
        paired_with_random(section(*three("naive", "continual", average_accuracy=[0.1] * 3)))
        is None
    )


def test_a_random_memory_of_another_kind_is_no_control(three, section):
    found = section(
        *three("local_replay-random", "federated_continual", average_accuracy=[0.5] * 3),
        *three("shared_buffer-dm", "federated_continual", average_accuracy=[0.75] * 3),
    )
    assert paired_with_random(found) is None
