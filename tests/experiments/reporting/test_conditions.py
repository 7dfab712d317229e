"""Arms by the problem that they were set."""

from experiments.reporting.conditions import by_conditions

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"


def test_labels_leave_out_what_the_panel_says(rounds, section):
    arms = section(
        *(
            rounds(name, [0.5], config={"partition": {"alpha": alpha}, "clients": 10})
            for name in ("fedavg", "fedprox")
            for alpha in (0.5, 0.1)
        )
    ).arms
    both = ["fedavg", "fedprox"]
    found = {title: [arm.label for arm in group] for title, group in by_conditions(arms).items()}
    assert found == {f"{ALPHA} 0.1": both, f"{ALPHA} 0.5": both}


def test_one_problem_is_one_panel_without_a_title(rounds, section):
    arms = section(rounds("fedavg", [0.5]), rounds("fedprox", [0.5])).arms
    assert list(by_conditions(arms)) == [""]
