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


def test_any_setting_of_the_problem_parts_panels_and_is_in_their_titles(rounds, section):
    classes = [{"_target_": "a.ClassesPerClient", "classes": n} for n in (2, 3)]
    iid = {"_target_": "a.Iid"}
    link = {"_target_": "a.Link", "up": 1000, "down": 5}
    runs = [
        rounds("fedavg", [0.5], config={"partition": partition, "link": link})
        for partition in (*classes, iid)
    ]
    runs += [rounds("fedprox", [0.5], config={"partition": iid})]
    runs += [rounds("fedprox", [0.5], config={"partition": iid, "link": link | {"up": 2}})]
    found = by_conditions(section(*runs).arms)
    assert {title: [arm.label for arm in arms] for title, arms in found.items()} == {
        "classes per client, classes 2, link, up 1000": ["fedavg"],
        "classes per client, classes 3, link, up 1000": ["fedavg"],
        "iid, link, up 1000": ["fedavg"],
        "iid, link, up 2": ["fedprox"],
        "iid, no link": ["fedprox"],
    }


def test_a_panel_without_what_others_have_says_so(rounds, section):
    few = {"dataset": {"name": "digits", "train_images": 100}}
    attack = {"attack": {"_target_": "a.LabelFlip", "clients": 4}}
    arms = section(*(rounds("fedavg", [0.5], config=config) for config in ({}, few, attack))).arms
    assert set(by_conditions(arms)) == {
        "100 training images, no attack",
        "all training images, label flip",
        "all training images, no attack",
    }


def test_an_empty_list_and_none_are_two_problems(rounds, section):
    streams = [{"stream": {"experiences": 5} | sizes} for sizes in ({}, {"sizes": []})]
    arms = section(*(rounds("fedavg", [0.5], config=config) for config in streams)).arms
    assert set(by_conditions(arms)) == {"stream.sizes '[]'", "stream.sizes None"}
