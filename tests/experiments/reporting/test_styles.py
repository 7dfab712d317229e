"""A method looks the same in every report, and like no other in it."""

from experiments.reporting.arms import group
from experiments.reporting.styles import Palette


def test_known_methods_look_the_same_in_every_report():
    few, many = Palette.of(["dm"]), Palette.of(["dm", "mtt", "haba", "random"])
    assert few.styles["dm"] == many.styles["dm"]
    assert few.styles["random"] == many.styles["random"]


def test_known_methods_differ_in_marker_and_line_and_not_only_in_colour():
    looks = [s for name, s in Palette.of([]).styles.items() if name not in {"fedavg", "fedprox"}]
    assert len({look.marker for look in looks}) == len(looks)
    assert len({(look.marker, look.dash) for look in Palette.of([]).styles.values()}) == 10


def test_other_methods_take_colours_that_no_known_method_of_the_report_has():
    styles = Palette.of(["fedavg", "fedprox", "dm", "scaffold"]).styles
    known = {styles[name].colour for name in ("fedavg", "fedprox", "dm")}
    assert styles["scaffold"].colour not in known


def test_no_two_methods_share_both_colour_and_marker():
    methods = ["fedavg", "fedprox", "random", "kmeans", "dm", *(f"m{i}" for i in range(50))]
    looks = [Palette.of(methods).styles[method] for method in methods]
    assert len({(look.colour, look.marker) for look in looks}) == len(methods)


def test_arms_of_one_method_share_the_colour_and_differ_in_marks(run):
    arms = group([run("dm", "distillation", config={"ipc": n}) for n in (1, 10, 50)])
    looks = list(Palette.of(["dm"]).of_arms(arms).values())
    assert len({look.colour for look in looks}) == 1
    assert len({(look.marker, look.hollow) for look in looks}) == 3
    assert len({look.dash for look in looks}) == 3
