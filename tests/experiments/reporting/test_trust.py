"""Arms with an attack or a defence have a table of their own; others have none."""

from experiments.reporting.summaries import not_shown
from experiments.reporting.tables import NONE
from experiments.reporting.trust import trust

ATTACK = {"attack": {"_target_": "fedcl.attacks.backdoor.Backdoor", "clients": 1}}
DEFENCE = {"defence": {"_target_": "fedcl.defences.krum.Krum", "attackers": 1}}
COMMON = {"accuracy": [0.9, 0.8, 0.7], "failures": [0, 0, 0], "malicious": [[3], [1], [2]]}


def test_every_contested_arm_has_a_row_with_its_means(three, section):
    runs = [
        *three("dm", "federated", accuracy=[0.9, 0.9, 0.9]),
        *three("dm", "federated", ATTACK, attack_success=[0.6, 0.8, 1.0], **COMMON),
        *three(
            "dm",
            "federated",
            ATTACK | DEFENCE,
            attack_success=[0.0, 0.1, 0.2],
            rejected_malicious=[1.0, 1.0, 1.0],
            rejected_honest=[0.0, 0.0, 0.3],
            rejected_rare=[None, None, None],
            **COMMON,
        ),
    ]
    table = trust(section(*runs))
    keys = [column.key for column in table.columns]
    rows = [dict(zip(keys, row, strict=True)) for row in table.rows]
    assert len(rows) == 2
    attacked, defended = sorted(rows, key=lambda row: -row["attack_success"].mean)
    assert "backdoor" in attacked["arm"]
    assert "krum" in defended["arm"]
    assert round(attacked["attack_success"].mean, 9) == 0.8
    assert attacked["rejected_honest"] is None
    assert round(defended["rejected_honest"], 9) == 0.1  # means of few clients, without intervals
    assert defended["rejected_malicious"] == 1
    assert defended["rejected_rare"] is None
    assert NONE in table.markdown()
    assert not set(not_shown(runs)) & {"malicious", "attack_success", "rejected_honest"}


def test_failures_are_headed_as_what_is_counted(three, section):
    table = trust(section(*three("dm", "federated", ATTACK, **COMMON)))
    assert [column.title for column in table.columns if column.key == "failures"] == ["Failures"]


def test_honest_arms_alone_need_no_table(three, section):
    assert trust(section(*three("dm", "federated", accuracy=[0.9, 0.8, 0.7]))) is None
