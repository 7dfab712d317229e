"""The figures of a scenario: which there are, and that drawing leaves no global state."""

import matplotlib as mpl

from experiments.reporting.figures import _over_buffers, plates
from experiments.reporting.styles import Palette


def titles(section, *methods: str) -> list[str]:
    return [plate.title for plate in plates(section, Palette.of(methods))]


def test_one_shot_alone_has_no_chart_over_rounds(rounds, section):
    alone = rounds("one_shot-dm", [0.5])
    assert titles(section(alone)) == ["Accuracy over bytes sent"]
    both = section(alone, rounds("fedavg", [0.25, 0.5]))
    assert titles(both)[-2:] == ["Accuracy over bytes sent", "Accuracy over rounds"]


def test_captions_say_what_seeds_of_unequal_rounds_do(rounds, section):
    def caption(*seeds):
        found = section(*(rounds("fedavg", a, seed=i) for i, a in enumerate(seeds)))
        return plates(found, Palette.of([]))[0].caption

    said = "A seed that reached its target stays where it ended."
    assert said in caption([0.25, 0.75], [0.75])
    assert said not in caption([0.25, 0.75], [0.5, 0.75])


def test_the_front_comes_first_and_needs_two_arms(rounds, section):
    one, other = rounds("one_shot-dm", [0.5]), rounds("fedavg", [0.25, 0.5])
    assert titles(section(one, other))[0] == "Accuracy over bytes: the Pareto front"
    assert "Accuracy over bytes: the Pareto front" not in titles(section(other))


def test_each_problem_has_its_own_chart(rounds, section):
    mixed = [
        rounds(name, [0.25, 0.5], config={"partition": {"alpha": alpha}})
        for name in ("fedavg", "fedprox")
        for alpha in (0.1, 0.5)
    ]
    by_title = {plate.title: plate for plate in plates(section(*mixed), Palette.of([]))}
    panels = by_title["Accuracy over rounds"].panels
    assert [panel.name for panel in panels] == [
        "federated-digits-rounds-0.1",
        "federated-digits-rounds-0.5",
    ]
    assert all(panel.alt.endswith("for fedavg, fedprox.") for panel in panels)
    assert len(by_title["Accuracy over bytes: the Pareto front"].panels) == 1


def test_raw_images_are_a_mark_in_the_panel_whose_arms_agree_on_them(rounds, section):
    def arm(name, alpha, raw):
        made = rounds(name, [0.25, 0.5], config={"partition": {"alpha": alpha}})
        made.record["metrics"]["raw_bytes"] = raw
        return made

    found = section(
        *(arm(name, alpha, 1000 * alpha) for name in ("fedavg", "fedprox") for alpha in (1, 2)),
        *(arm(name, 3, raw) for name, raw in (("fedavg", 3000), ("fedprox", 4000))),
    )
    by_title = {plate.title: plate for plate in plates(found, Palette.of([]))}
    legends = [_told(panel.figure) for panel in by_title["Accuracy over bytes sent"].panels]
    raw = [[" ".join(label.split()) for label in told if "raw" in label] for told in legends]
    assert raw == [["clients' raw images · 1.00 kB"], ["clients' raw images · 2.00 kB"], []]


def test_an_arm_looks_the_same_under_all_conditions(rounds, section):
    # feddm-random comes before one_shot-random, and is missing from one panel.
    def arm(name, alpha):
        return rounds(name, [0.25, 0.5], config={"partition": {"alpha": alpha}})

    found = section(
        arm("one_shot-random", 0.5), arm("one_shot-random", 0.1), arm("feddm-random", 0.1)
    )
    by_title = {plate.title: plate for plate in plates(found, Palette.of([]))}
    (panel,) = by_title["Accuracy over bytes: the Pareto front"].panels
    both, alone = ({_look(c.lines[0]) for c in axes.containers} for axes in panel.figure.axes)
    told = _told(panel.figure)
    assert alone == {told["one_shot-random"]}
    assert both == {told["one_shot-random"], told["feddm-random"]}
    assert len(both) == 2
    curves = [_told(panel.figure) for panel in by_title["Accuracy over rounds"].panels]
    assert len({looks["one_shot-random"] for looks in curves}) == 1


def _told(figure) -> dict[str, tuple[str, str]]:
    """The look of each label in a figure's legend."""
    (legend,) = figure.legends
    return {handle.get_label(): _look(handle) for handle in legend.legend_handles}


def _look(line) -> tuple[str, str]:
    return line.get_marker(), line.get_markerfacecolor()


def test_clients_have_bars_where_they_were_scored(run, section):
    metrics = {"accuracy": 0.5, "client_accuracies": [0.25, None, 0.75]}
    scored = section(run("fedavg", "federated", metrics=metrics))
    assert titles(scored) == ["Accuracy of each client"]
    assert titles(section(run("fedavg", "federated", metrics={"accuracy": 0.5}))) == []


def test_time_is_drawn_where_any_run_simulated_it(rounds, section):
    plain, timed = rounds("fedavg", [0.25, 0.5]), rounds("fedprox", [0.25, 0.5])
    assert "Accuracy over simulated time" not in titles(section(plain))
    for row in timed.record["history"]:
        row["simulated_seconds"] = 2.0
    assert titles(section(plain, timed)) == [
        "Accuracy over bytes: the Pareto front",
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


def memory(run, name, images, **config):
    """A run of two experiences with a buffer."""
    metrics = {"average_accuracy": 0.75, "average_forgetting": 0.5, "buffer_bytes": 65 * images}
    metrics |= {"accuracy_matrix": [[1.0, 0.0], [0.5, 1.0]]}
    config |= {"buffer": {"images": images}}
    return run(name, "continual", config=config, metrics=metrics)


def test_bytes_come_first_where_buffers_have_several_sizes(run, section):
    one, other = memory(run, "replay-dm", 20), memory(run, "replay-dm", 50)
    bytes_first = ["Accuracy over buffer bytes", "Forgetting over buffer bytes"]
    learnt = ["Accuracy matrices", "Accuracy on each experience over time"]
    assert titles(section(one, other)) == bytes_first + learnt
    assert titles(section(one)) == learnt + bytes_first


def test_forgetting_may_be_below_nothing_and_accuracy_not(run, section):
    found, palette = section(memory(run, "replay-dm", 20)), Palette.of(["dm"])
    for key, least in (("average_forgetting", -1.0), ("average_accuracy", 0.0)):
        (chart,) = _over_buffers(found, palette, key, "").values()
        assert chart.least == least


def test_experiences_have_a_panel_for_each_size_with_the_bounds_in_it(run, section):
    arms = [memory(run, "replay-dm", 20), memory(run, "replay-dm", 50), memory(run, "naive", 0)]
    by_title = {plate.title: plate for plate in plates(section(*arms), Palette.of(["dm"]))}
    assert [panel.alt for panel in by_title["Accuracy on each experience over time"].panels] == [
        "Accuracy on each experience, buffers of 1.30 kB, for replay-dm, naive.",
        "Accuracy on each experience, buffers of 3.25 kB, for replay-dm, naive.",
    ]


def test_each_stream_has_its_own_chart_over_bytes(run, section):
    streams = [{"_target_": f"fedcl.streams.{kind}"} for kind in ("ClassIncremental", "Permuted")]
    arms = [memory(run, "replay-dm", n, stream=stream) for n in (20, 50) for stream in streams]
    by_title = {plate.title: plate for plate in plates(section(*arms), Palette.of(["dm"]))}
    assert [panel.name for panel in by_title["Accuracy over buffer bytes"].panels] == [
        "continual-digits-buffer-class-incremental",
        "continual-digits-buffer-permuted",
    ]


def test_dollars_in_names_are_not_mathematics(rounds, section):
    found = section(rounds("$x^$", [0.25, 0.5]))
    assert all(panel.svg for plate in plates(found, Palette.of(["$x^$"])) for panel in plate.panels)


def test_drawing_leaves_the_global_settings_as_they_were(rounds, section):
    before = dict(mpl.rcParams)
    found = section(rounds("fedavg", [0.25, 0.5]))
    assert all(panel.png for plate in plates(found, Palette.of([])) for panel in plate.panels)
    assert dict(mpl.rcParams) == before
