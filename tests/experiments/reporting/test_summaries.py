"""The summary's numbers are those worked by hand, and bold is told among rivals only."""

import pytest

from experiments.reporting.prose import finding
from experiments.reporting.summaries import costs, not_shown, summary, transfer
from experiments.reporting.tables import Table
from fedcl.statistics import Interval

# The 0.975 quantile of Student's t with two degrees of freedom; for values m - d, m, m + d the
# standard deviation is d, so the half width is T2 * d / sqrt(3).
T2 = 4.302652729911275


def rows_of(table: Table) -> list[dict[str, object]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


def test_failed_runs_take_no_part(run, three, section):
    failed = run(seed=3, status="failed", error="why", metrics={"accuracy": 0.1})
    found = section(*three(accuracy=[0.5, 0.6, 0.7]), failed)
    assert found.arms[0].interval("accuracy").count == 3
    assert (found.arms[0].failed, found.arms[0].seeds) == (1, 4)
    assert "Seeds that failed, and are in no mean: 1 of 4 of dm." in summary(found).notes
    assert finding(found).endswith(" % (1 of its 4 seeds failed).")


def test_a_failed_run_that_was_repeated_is_no_failed_seed(run, section):
    runs = [run(status="failed", started="2"), run(metrics={"accuracy": 0.1}, started="1")]
    (arm,) = section(*runs).arms
    assert (len(arm.runs), arm.failed) == (1, 0)


def test_means_of_fewer_seeds_than_their_arm_has_are_told(run, section):
    seconds = [{"small_seconds_to_accuracy": 1.0}, {}, {"small_seconds_to_accuracy": 3.0}]
    runs = [run(seed=i, metrics={"accuracy": 0.5, **more}) for i, more in enumerate(seconds)]
    (note,) = [note for note in summary(section(*runs)).notes if note.startswith("Of fewer seeds")]
    assert note.endswith(", dm, 2 of 3.")


def test_summary_holds_means_and_intervals_best_first(three, section):
    # dm: mean 0.6, d = 0.1; random: mean 0.5, d = 0.02; gains 0.02, 0.1, 0.18: mean 0.1, d = 0.08.
    found = section(
        *three("random", accuracy=[0.48, 0.5, 0.52], storage_bytes=[650] * 3),
        *three("dm", accuracy=[0.5, 0.6, 0.7], storage_bytes=[650] * 3),
    )
    table = summary(found)
    first, second = rows_of(table)
    assert (first["arm"], first["seeds"], second["arm"]) == ("dm", 3.0, "random")
    assert first["accuracy"].mean == pytest.approx(0.6)
    assert first["accuracy"].half_width == pytest.approx(T2 * 0.1 / 3**0.5)
    assert second["accuracy"].half_width == pytest.approx(T2 * 0.02 / 3**0.5)
    assert table.best == {(0, 2)}
    assert "| dm | 3 | **60.0 ± 24.8** | +10.0 ± 19.9 | 650 B |" in table.markdown()


def test_gain_is_paired_within_a_run(three, section):
    # Differences 0.1, 0.2, 0.3: mean 0.2, d = 0.1, though the accuracies themselves are equal.
    found = section(*three(accuracy=[0.8, 0.8, 0.8], random_accuracy=[0.7, 0.6, 0.5]))
    (row,) = rows_of(summary(found))
    assert row["gain"].mean == pytest.approx(0.2)
    assert row["gain"].half_width == pytest.approx(T2 * 0.1 / 3**0.5)


def test_gain_is_over_random_images_of_the_same_store(run, section):
    def arm(name, store, ipc, accuracy, steps):
        config = {"ipc": ipc, "store": store, "method": {"iterations": steps}}
        return run(name, config=config, metrics={"accuracy": accuracy})

    found = section(
        arm("random", "uint8", 4, 0.7, 0),  # the same bytes, and so a rival
        arm("random", "float32", 1, 0.5, 0),
        arm("dm", "float32", 1, 0.6, 100),  # two of one name carry a tag that random has not
        arm("dm", "float32", 1, 0.8, 200),
    )
    gains = {row["arm"]: row["gain"].mean for row in rows_of(summary(found)) if row["gain"]}
    assert sorted(gains.values()) == pytest.approx([0.1, 0.3])


def test_gain_is_over_random_images_of_the_same_evaluation(run, section):
    def arm(name, updates, accuracy):
        config = {"ipc": 1, "evaluation": {"updates": updates}}
        return run(name, config=config, metrics={"accuracy": accuracy})

    found = section(
        arm("random", 300, 0.5), arm("random", 600, 0.6), arm("dm", 600, 0.9), arm("dc", 900, 0.8)
    )
    gains = {row["arm"]: row["gain"].mean for row in rows_of(summary(found)) if row["gain"]}
    assert gains == {"dm · scored after 600 updates": pytest.approx(0.3)}


def test_best_is_told_for_each_budget_and_bounds_take_no_part(run, section):
    def arm(name, images, accuracy, forgetting):
        metrics = {"average_accuracy": accuracy, "average_forgetting": forgetting}
        metrics["buffer_bytes"] = 65 * images
        return run(name, "continual", config={"buffer": {"images": images}}, metrics=metrics)

    found = section(
        arm("joint", 0, 0.99, 0),
        arm("a", 50, 0.8, 0.2),
        arm("b", 50, 0.7, 0.1),
        arm("a", 20, 0.6, 0.3),
        arm("b", 20, 0.5, 0.4),
    )
    # Rows: joint, a 50, b 50, a 20, b 20; columns: arm, seeds, accuracy, forgetting.
    assert summary(found).best == {(1, 2), (3, 2), (2, 3), (3, 3)}


@pytest.mark.parametrize(
    ("scenario", "equal"),
    [("federated", "equal conditions."), ("distillation", "equal budget and conditions.")],
)
def test_bold_names_what_its_arms_share(run, section, scenario, equal):
    found = section(
        *(
            run(name, scenario, config={"clients": clients}, metrics={"accuracy": accuracy})
            for name, clients, accuracy in (("dm", 1, 0.5), ("dc", 1, 0.4), ("dm", 2, 0.3))
        )
    )
    assert summary(found).notes[1] == f"Bold: the best mean among arms of {equal}"


def test_fewer_than_three_seeds_say_so(run, three, section):
    found = section(*three("dm", accuracy=[0.5] * 3), run("dc", metrics={"accuracy": 0.4}))
    assert summary(found).notes[-1].endswith("single looks: dc.")
    assert "Fewer" not in "".join(summary(section(*three(accuracy=[0.5] * 3))).notes)


def test_one_seed_has_a_mean_and_no_interval(run, section):
    found = section(run(metrics={"accuracy": 0.4}))
    assert rows_of(summary(found))[0]["accuracy"] == Interval(0.4, None, 1)
    assert "| dm | 1 | 40.0 |" in summary(found).markdown()


def test_transfer_table_leaves_out_what_no_run_recorded(run, section):
    found = section(run("naive", "federated_continual", metrics={"average_forgetting": 0.25}))
    assert [column.key for column in transfer(found).columns] == [
        "arm",
        "seeds",
        "average_forgetting",
    ]


def test_federated_summary_tells_the_mean_and_the_worst_of_clients(run, section):
    def arm(name, mean, worst):
        metrics = {"accuracy": 0.5, "mean_client_accuracy": mean, "worst_client_accuracy": worst}
        return run(name, "federated", metrics=metrics | {"client_accuracies": [mean, worst]})

    found = section(arm("fedavg", 0.75, 0.25), arm("fedprox", 0.5, 0.375))
    table = summary(found)
    assert [column.title for column in table.columns][2:] == [
        "Accuracy",
        "Mean of clients",
        "Worst client",
    ]
    assert "| fedavg | 1 | 50.0 | **75.0** | 25.0 |" in table.markdown()
    assert "| fedprox | 1 | 50.0 | 50.0 | **37.5** |" in table.markdown()
    assert not_shown(found.arms[0].runs) == []


def test_continual_summary_names_both_definitions_of_forgetting(run, section):
    metrics = {"average_forgetting": 0.25, "backward_transfer": -0.2, "learning_accuracy": 0.9}
    metrics |= {"accuracy_matrix": [[0.5]]}
    joint = run("joint", "continual", metrics={"accuracy_matrix": [[0.75]]})
    table = summary(section(run("naive", "continual", metrics=metrics), joint))
    minus = "\N{MINUS SIGN}"
    assert [column.title for column in table.columns[2:]] == [
        f"Forgetting, max {minus} last",
        f"Backward transfer, last {minus} first",
        "Learning accuracy",
        "Intransigence",
    ]
    assert rows_of(table)[1]["intransigence"].mean == pytest.approx(0.25)


def test_costs_stand_beside_the_accuracy(run, section):
    cost = {"buffer_bytes": 1300, "model_copies": 1, "samples": 6000}
    seconds = {"train_seconds": 8.0, "distill_seconds": 2.0, "evaluate_seconds": 0.5}
    found = section(
        run("replay-dm", "continual", metrics={"average_accuracy": 0.75, **cost, **seconds}),
        run("lwf", "continual", metrics={"average_accuracy": 0.25}),
    )
    table = costs(found)
    ratio = "0.25\N{MULTIPLICATION SIGN}"
    first = f"| replay-dm | 1 | 75.0 | 1.30 kB | 1 | 6,000 | 8.0 | 2.0 | {ratio} | 0.5 |"
    assert first in table.markdown()
    assert rows_of(table)[1]["train_seconds"] is None
    assert not_shown(found.arms[0].runs) == []


@pytest.mark.parametrize(("kept", "shown"), [(800, True), (0, False)])
def test_what_is_kept_beside_a_buffer_is_shown_where_there_is_such(run, section, kept, shown):
    metrics = {"average_accuracy": 0.75, "buffer_bytes": 1300, "buffer_allowed": 1300}
    found = section(run("der-random", "continual", metrics={**metrics, "kept_bytes": kept}))
    assert ("kept_bytes" in {column.key for column in summary(found).columns}) is shown
    assert not_shown(found.arms[0].runs) == []


@pytest.mark.parametrize("kept", [800, 0])
def test_what_is_kept_beside_equal_buffers_is_said_to_count_nowhere(run, section, kept):
    metrics = {"buffer_bytes": 1300, "buffer_allowed": 1300, "kept_bytes": 0}
    found = section(
        run(
            "der-random",
            "continual",
            metrics={**metrics, "average_accuracy": 0.8, "kept_bytes": kept},
        ),
        run("replay-random", "continual", metrics={**metrics, "average_accuracy": 0.7}),
    )
    told = " ".join(summary(found).notes)
    assert ("what arms keep beside them differs, and isn't counted" in told) is bool(kept)


def test_distilling_is_no_multiple_of_no_training(run):
    metrics = {"train_seconds": 0.0, "distill_seconds": 2.0}
    assert run("gdumb-dm", "continual", metrics=metrics).number("distill_ratio") is None


def test_runs_that_recorded_no_cost_have_no_table_of_it(run, section):
    metrics = {"average_accuracy": 0.75, "buffer_bytes": 1300}
    assert costs(section(run("replay-dm", "continual", metrics=metrics))) is None


def test_metrics_that_no_table_reads_are_named(run):
    assert not_shown([run(metrics={"accuracy": 0.5, "colour": 1})]) == ["colour"]


def test_equal_images_at_unequal_bytes_are_no_rivals(run, section):
    # Three clients with a buffer each hold three times what one shared buffer holds.
    buffer = {"buffer": {"images": 20}}
    found = section(
        run(
            "a",
            "federated_continual",
            0,
            buffer,
            metrics={"average_accuracy": 0.8, "buffer_bytes": 1300},
        ),
        run(
            "b",
            "federated_continual",
            0,
            buffer,
            metrics={"average_accuracy": 0.5, "buffer_bytes": 3900},
        ),
    )
    assert summary(found).best == frozenset()


def test_origin_is_told_as_a_word(run, section):
    (row,) = rows_of(summary(section(run(metrics={"accuracy": 0.5, "origin": "real"}))))
    assert row["origin"] == "real"
