"""What attacks reach is drawn beside clean accuracy, below the attack's name."""

import pytest

from experiments.reporting.figures import plates
from experiments.reporting.styles import Palette

TITLE = "What attacks reach, and what defences leave of it"


KRUM = {"_target_": "fedcl.defences.krum.Krum"}


def config(attack, defence=None):
    """Returns the part of a run's configuration that says who attacks and who defends."""
    found = {"_target_": f"fedcl.attacks.{attack.lower()}.{attack}", "clients": 1}
    return {"attack": found, "defence": defence}


def _dot(drawn):
    ((x,), (y,)) = drawn.lines[0].get_data()
    return y, x


@pytest.fixture
def figure(section, three):
    """Two attacks, one of which wants no one answer, without a defence and with one."""
    clean = {"accuracy": [0.79, 0.8, 0.81], "bytes_up": [3, 3, 3], "bytes_down": [1, 1, 1]}
    arms = [
        *three("dm", "federated", config("Backdoor"), attack_success=[0.6, 0.8, 1.0], **clean),
        *three("dm", "federated", config("Backdoor", KRUM), attack_success=[0, 0, 0], **clean),
        *three("dm", "federated", config("Noise"), rejected_malicious=[0, 0, 0], **clean),
    ]
    drawn = {plate.title: plate for plate in plates(section(*arms), Palette.of(["dm"]))}
    return drawn[TITLE].panels[0].figure


def test_arms_stand_below_their_attack_what_has_no_defence_first(figure):
    left, _ = figure.axes
    labels = left.get_yticklabels()
    names = ["backdoor", "dm", "dm · krum", "noise", "dm"]
    assert [label.get_text() for label in labels] == names
    weights = ["bold", "normal", "normal", "bold", "normal"]
    assert [label.get_fontweight() for label in labels] == weights
    assert left.yaxis_inverted()


def test_each_side_shows_its_mean_and_interval_and_nothing_where_there_is_none(figure):
    left, right = figure.axes
    dots = [dict(_dot(drawn) for drawn in axes.containers) for axes in (left, right)]
    assert dots[0] == pytest.approx({1: 0.8, 2: 0.8, 4: 0.8})
    assert dots[1] == pytest.approx({1: 0.8, 2: 0.0})
    half = 0.2 * 4.302653 / 3**0.5  # Student's t, two degrees of freedom
    bars = {s[0, 1]: s[:, 0].tolist() for c in right.collections for s in c.get_segments()}
    assert bars[1] == pytest.approx([0.8 - half, 0.8 + half])


def test_where_nobody_attacks_there_is_no_such_figure(section, three):
    found = section(*three("dm", "federated", accuracy=[0.7, 0.8, 0.9]))
    assert TITLE not in {plate.title for plate in plates(found, Palette.of(["dm"]))}
