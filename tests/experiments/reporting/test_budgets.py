"""A budget buys the rounds that end within it."""

import pytest

from experiments.reporting import budgets
from experiments.reporting.budgets import accuracy_within


@pytest.fixture(autouse=True)
def small_budgets(monkeypatch):
    monkeypatch.setattr(budgets, "BUDGETS", (100, 200, 300, 600, 1000, 2000))


def cells(table):
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    return {row.pop("arm"): row for row in rows}


def test_accuracy_is_that_of_the_last_whole_round_mean_over_seeds(rounds, section):
    # A round is 150 bytes: 200 buy one round, 300 two, 600 four.
    found = section(
        rounds("fedavg", [0.2, 0.6, 0.7, 0.9, 0.5], seed=0),
        rounds("fedavg", [0.4, 0.8, 0.5, 0.7, 0.1], seed=1),
    )
    row = cells(accuracy_within(found))["fedavg"]
    assert {key: cell.mean for key, cell in row.items()} == pytest.approx(
        {"200": 0.3, "300": 0.7, "600": 0.8, "1000": 0.3}
    )


def test_an_arm_that_is_done_keeps_its_accuracy(rounds, section):
    found = section(rounds("one_shot-dm", [0.7]), rounds("fedavg", [0.1] * 5))
    row = cells(accuracy_within(found))["one_shot-dm"]
    assert [cell.mean for cell in row.values()] == [0.7] * 4


def test_a_round_that_is_too_dear_is_a_dash(rounds, section):
    cheap = rounds("one_shot-dm", [0.7])
    dear = rounds("fedavg", [0.1, 0.2])
    for row in dear.record["history"]:
        row["bytes_up"] = 400  # 450 a round
    rows = cells(accuracy_within(section(cheap, dear)))
    assert [rows["fedavg"][key] for key in ("200", "300")] == [None, None]
    assert rows["fedavg"]["600"].mean == 0.1
    assert rows["fedavg"]["1000"].mean == 0.2
    assert "2000" not in rows["fedavg"]


def test_a_budget_that_one_seed_cannot_pay_with_is_a_dash(rounds, section):
    cheap, dear = rounds("fedavg", [0.5, 0.6], seed=0), rounds("fedavg", [0.7, 0.8], seed=1)
    for row in dear.record["history"]:
        row["bytes_up"] = 200  # 250 a round
    row = cells(accuracy_within(section(cheap, dear)))["fedavg"]
    assert row["200"] is None
    assert row["300"].mean == pytest.approx((0.6 + 0.7) / 2)


def test_arms_of_one_round_at_one_price_need_no_table(rounds, section):
    assert accuracy_within(section(rounds("one_shot-dm", [0.7]))) is None


def test_the_last_budget_pays_for_the_dearest_arm(rounds, section, monkeypatch):
    monkeypatch.undo()
    cheap, dear = rounds("one_shot-dm", [0.7]), rounds("fedavg", [0.1, 0.2])
    for row in dear.record["history"]:
        row["bytes_up"] = 10**9
    last = list(cells(accuracy_within(section(cheap, dear)))["fedavg"].items())[-1]
    assert (last[0], last[1].mean) == ("3000000000", 0.2)
