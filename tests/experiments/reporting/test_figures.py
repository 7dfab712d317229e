"""The figures of a scenario: which there are, and that drawing leaves no global state."""

import matplotlib as mpl

from experiments.reporting.figures import plates
from experiments.reporting.styles import Palette


def titles(section, *methods: str) -> list[str]:
    return [plate.title for plate in plates(section, Palette.of(methods))]


def test_one_shot_alone_has_no_chart_over_rounds(rounds, section):
    alone = rounds("one_shot-dm", [0.5])
    assert titles(section(alone)) == ["Accuracy over bytes sent"]
    both = section(alone, rounds("fedavg", [0.25, 0.5]))
    assert titles(both) == ["Accuracy over bytes sent", "Accuracy over rounds"]


def test_time_is_drawn_where_any_run_simulated_it(rounds, section):
    plain, timed = rounds("fedavg", [0.25, 0.5]), rounds("fedprox", [0.25, 0.5])
    assert "Accuracy over simulated time" not in titles(section(plain))
    for row in timed.record["history"]:
        row["simulated_seconds"] = 2.0
    assert titles(section(plain, timed)) == [
        "Accuracy over bytes sent",
        "Accuracy over rounds",
        "Accuracy over simulated time",
    ]


def test_what_learns_all_at_once_has_no_matrix(run, section):
    row, matrix = [[0.5, 0.5]], [[1.0, 0.0], [0.5, 1.0]]
    joint = run("joint", "continual", metrics={"accuracy_matrix": row})
    assert titles(section(joint)) == []
    naive = run("naive", "continual", metrics={"accuracy_matrix": matrix})
    (plate,) = plates(section(joint, naive), Palette.of([]))
    assert "joint" not in plate.panels[0].alt


def test_dollars_in_names_are_not_mathematics(rounds, section):
    found = section(rounds("$x^$", [0.25, 0.5]))
    assert all(panel.svg for plate in plates(found, Palette.of(["$x^$"])) for panel in plate.panels)


def test_drawing_leaves_the_global_settings_as_they_were(rounds, section):
    before = dict(mpl.rcParams)
    found = section(rounds("fedavg", [0.25, 0.5]))
    assert all(panel.png for plate in plates(found, Palette.of([])) for panel in plate.panels)
    assert dict(mpl.rcParams) == before
