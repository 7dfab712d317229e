"""What one shot and rounds send for an accuracy agrees with arithmetic."""

from experiments.reporting.comparisons import bytes_to_reach, reach
from experiments.reporting.summaries import summary
from experiments.reporting.tables import Table


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


def test_a_seed_that_failed_has_reached_nothing(run, rounds, section):
    failed = run("fedavg", "federated", seed=1, status="failed")
    found = section(rounds("one_shot-dm", [0.7]), rounds("fedavg", [0.2, 0.8]), failed)
    (row,) = rows_of(bytes_to_reach(found))
    assert row["equal_bytes"] == "1 of 2 seeds reach it"


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
