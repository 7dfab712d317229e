"""Differences are paired by seed and budget, and called real only where the seeds can tell."""

import pytest

from experiments.reporting.differences import differences
from experiments.reporting.tables import Table
from fedcl.statistics import Interval

# The 0.975 quantile of Student's t with two degrees of freedom; for values m - d, m, m + d the
# standard deviation is d, so the half width is T2 * d / sqrt(3).
T2 = 4.302652729911275


def rows_of(table: Table) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


@pytest.fixture
def arm(run):
    """Returns what makes the runs of one arm, one a seed, whose buffer is of 65 bytes an image."""

    def made(name, accuracies, images=20, scenario="continual"):
        config = {"buffer": {"images": images}}
        return [
            run(
                name,
                scenario,
                seed,
                config,
                metrics={"average_accuracy": accuracy, "buffer_bytes": 65 * images},
            )
            for seed, accuracy in enumerate(accuracies)
        ]

    return made


def test_differences_are_paired_by_seed_and_budget(arm, section):
    # Budget 20: 0.1, 0.2, 0.3 more than random, mean 0.2, d = 0.1, half width 0.248,
    # t = 0.2 / (0.1 / sqrt 3) = 3.46 on two degrees: p = 1 - t / sqrt(t^2 + 2) = 0.074.
    # Budget 50: 0.24, 0.25, 0.26 more, d = 0.01. Signs: 2 of 8 as far in both.
    found = section(
        *arm("replay-random", [0.3, 0.4, 0.5]),
        *arm("replay-dm", [0.4, 0.6, 0.8]),
        *arm("replay-random", [0.5, 0.25, 0.5], 50),
        *arm("replay-dm", [0.74, 0.5, 0.76], 50),
    )
    few, many = sorted(rows_of(differences(found)), key=lambda row: row["arm"])
    assert (few["arm"], few["versus"]) == ("replay-dm · 20 images", "replay-random · 20 images")
    assert (many["arm"], many["versus"]) == ("replay-dm · 50 images", "replay-random · 50 images")
    assert few["average_accuracy"].mean == pytest.approx(0.2)
    assert few["average_accuracy"].half_width == pytest.approx(T2 * 0.1 / 3**0.5)
    assert few["student"] == few["student_holm"] == pytest.approx(1 - (12 / 14) ** 0.5)
    assert many["average_accuracy"].half_width == pytest.approx(T2 * 0.01 / 3**0.5)
    assert (many["flips"], many["flips_holm"]) == (0.25, 0.5)
    assert (few["real"], many["real"]) == ("no", "by t alone")


def test_what_an_arm_keeps_beside_its_memory_is_said(three, section):
    def notes(kept):
        found = section(
            *three("replay-dm", "continual", average_accuracy=[0.3, 0.4, 0.5], kept_bytes=[0] * 3),
            *three(
                "icarl-dm", "continual", average_accuracy=[0.4, 0.5, 0.7], kept_bytes=[kept] * 3
            ),
        )
        return differences(found).notes

    assert notes(9)[:-1] == notes(0)
    assert notes(9)[-1].startswith("Budgets are those of memories. Some arms keep more beside")


def test_each_arm_meets_random_and_the_best_other_once(arm, section):
    found = section(
        *arm("replay-random", [0.3, 0.4]),
        *arm("replay-kmeans", [0.5, 0.6]),
        *arm("replay-dm", [0.7, 0.9]),
        *arm("replay-herding", [0.4, 0.4]),
        *arm("gdumb-dm", [0.1, 0.2]),
    )
    table = differences(found)
    pairs = [(row["arm"], row["versus"]) for row in rows_of(table)]
    assert pairs == [
        ("replay-dm", "replay-random"),
        ("replay-dm", "replay-kmeans"),
        ("replay-kmeans", "replay-random"),
        ("replay-herding", "replay-random"),
        ("replay-herding", "replay-dm"),
        ("gdumb-dm", "replay-dm"),
    ]
    assert "Holm corrects for all pairs of equal budget, 10," in table.notes[1]


def test_pairs_that_the_best_was_picked_from_count_though_they_have_no_row(arm, section):
    # Each arm is about 0.1 ahead of the one before on all six seeds: p = 2 / 2^6 for all of the
    # six pairs. replay-b against replay-a has no row, for neither is random or the best other.
    noise = [[0.0] * 6, [0, 1, 0, 2, 1, 0], [1, 0, 2, 0, 0, 1], [0, 2, 1, 1, 0, 2]]
    names = ["replay-random", "replay-a", "replay-b", "replay-c"]
    runs = [
        run
        for i, (name, own) in enumerate(zip(names, noise, strict=True))
        for run in arm(name, [0.1 * i + 0.01 * x for x in own])
    ]
    rows = rows_of(differences(section(*runs)))
    assert len(rows) == 5
    assert {row["flips_holm"] for row in rows} == {6 * 2 / 2**6}


def test_forgetting_is_told_beside_the_accuracy(three, section):
    found = section(
        *three(
            "replay-random", "continual", average_accuracy=[0.5] * 3, average_forgetting=[1.0] * 3
        ),
        *three("replay-dm", "continual", average_accuracy=[0.75] * 3, average_forgetting=[0.5] * 3),
    )
    (row,) = rows_of(differences(found))
    assert row["average_forgetting"] == Interval(-0.5, 0.0, 3)


def test_a_difference_is_real_where_both_tests_show_it(arm, section):
    ahead = [0.5 + 0.01 * seed for seed in range(6)]
    found = section(*arm("replay-random", [0.25] * 6), *arm("replay-dm", ahead))
    table = differences(found)
    (row,) = rows_of(table)
    assert (row["flips"], row["real"]) == (2 / 2**6, "yes")
    assert len(table.notes) == 2


def test_six_seeds_that_turn_their_sign_show_nothing(arm, section):
    turning = [0.25 + 0.1 * (-1) ** seed for seed in range(6)]
    found = section(*arm("replay-random", [0.25] * 6), *arm("replay-dm", turning))
    (row,) = rows_of(differences(found))
    assert (row["flips"], row["real"]) == (1.0, "no")


def test_fewer_than_six_seeds_say_that_they_cannot(arm, section):
    found = section(*arm("replay-random", [0.25] * 5), *arm("replay-dm", [0.5] * 5))
    note = differences(found).notes[-1]
    assert note.startswith("Fewer than six seeds cannot show p < 0.05 by permutation")
    assert "here 0.0625 with 5. Corrected, sign flips need 6 seeds." in note


def test_budgets_are_compared_within_themselves(arm, section):
    found = section(*arm("replay-random", [0.5] * 3, 20), *arm("replay-dm", [0.75] * 3, 50))
    assert differences(found) is None


def test_only_seeds_of_both_arms_are_paired(arm, section):
    found = section(
        *arm("replay-random", [0.25, 0.5, 0.25])[1:], *arm("replay-dm", [0.0, 0.75, 0.5])
    )
    (row,) = rows_of(differences(found))
    assert row["average_accuracy"] == Interval(0.25, 0.0, 2)


@pytest.mark.parametrize("common", [0, 1])
def test_arms_without_two_common_seeds_have_no_difference(arm, section, common):
    random, dm = arm("replay-random", [0.25] * 4), arm("replay-dm", [0.5] * 4)
    assert differences(section(*random[:2], *dm[2 - common :])) is None


def test_a_better_arm_of_one_seed_hides_no_difference(arm, section):
    names = ["replay-dm", "replay-kmeans"]
    found = section(*arm("der-dm", [0.9]), *arm(names[0], [0.7] * 3), *arm(names[1], [0.5] * 3))
    assert [(row["arm"], row["versus"]) for row in rows_of(differences(found))] == [tuple(names)]


def test_bounds_take_no_part(three, section):
    naive = three("naive", "continual", average_accuracy=[0.1] * 3)
    assert differences(section(*naive)) is None
    dm = three("replay-dm", "continual", average_accuracy=[0.5] * 3)
    assert differences(section(*naive, *dm)) is None


def test_a_random_memory_of_another_kind_is_no_control(arm, section):
    kinds = {"scenario": "federated_continual"}
    found = section(
        *arm("local_replay-random", [0.5] * 3, **kinds),
        *arm("shared_buffer-dm", [0.75] * 3, **kinds),
        *arm("shared_buffer-kmeans", [0.625] * 3, **kinds),
    )
    assert [(row["arm"], row["versus"]) for row in rows_of(differences(found))] == [
        ("shared_buffer-dm", "shared_buffer-kmeans"),
        ("local_replay-random", "shared_buffer-dm"),
    ]


def test_uploads_are_compared_with_those_of_as_many_bytes(run, section):
    # Seeds 0 and 1: 0.1 and 0.3 more than random, mean 0.2; the worst client half of it more.
    def arm(name, accuracies, bytes_up, **config):
        return [
            run(
                name,
                "federated",
                seed,
                config,
                metrics={
                    "accuracy": accuracy,
                    "worst_client_accuracy": accuracy / 2,
                    "bytes_up": bytes_up,
                },
            )
            for seed, accuracy in enumerate(accuracies)
        ]

    found = section(
        *arm("fedavg", [0.9, 0.9], 20_100_000, rounds=20),
        *arm("dynafed-mtt", [0.9, 1.0], 19_900_000, rounds=20),
        *arm("fedavg", [0.6, 0.6], 1_000_000, rounds=1),
        *arm("one_shot-dm", [0.5, 0.8], 78_500, ipc=10),
        *arm("one_shot-random", [0.4, 0.5], 78_500, ipc=10),
        *arm("one_shot-random", [0.7, 0.7], 392_500, ipc=50),
        *arm("one_shot-dm", [0.3, 0.3], 7_850, ipc=1),
        *arm("feddm-random", [0.4, 0.4], 157_000, ipc=10),
    )
    rows = rows_of(differences(found))
    assert [(row["arm"], row["versus"]) for row in rows] == [
        ("dynafed-mtt", "fedavg · 20 rounds"),
        ("one_shot-dm · ipc 10", "one_shot-random · ipc 10"),
    ]
    assert rows[1]["accuracy"].mean == pytest.approx(0.2)
    assert rows[1]["worst_client_accuracy"].mean == pytest.approx(0.1)
