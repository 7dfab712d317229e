"""An attack and a defence around a method: who is set aside, and what a record says of it."""

from dataclasses import dataclass, replace

import pytest
import torch

from distill.augment import Augmentation
from distill.coresets import Noise as NoiseImages
from distill.coresets import Random
from distill.images import LabelledImages
from distill.training import Recipe, score
from fedcl.attacks.backdoor import Backdoor
from fedcl.attacks.base import malicious
from fedcl.attacks.label_flip import LabelFlip
from fedcl.attacks.noise import Noise
from fedcl.attacks.trigger import Trigger
from fedcl.defences.base import Defence
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.feddm import FedDM
from fedcl.federated.one_shot import OneShot
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import RoundFailedError, Rules
from fedcl.trust import Trust

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
METHOD = OneShot(Random(), 2, RECIPE)
BACKDOOR = Backdoor(1, Trigger(2, 1), 2)


@dataclass(frozen=True)
class Rejecting(Defence):
    """Sets these clients aside."""

    clients: tuple[int, ...]
    needs_validation = False

    def rejected(self, evidence):
        assert sorted(evidence.sets) == [0, 1, 2]
        return dict.fromkeys(self.clients, "its face")


@dataclass(frozen=True)
class Needy(Defence):
    needs_validation = True

    def rejected(self, evidence):
        return {}


def empty(world) -> LabelledImages:
    return world.clients[0][0].rows(torch.arange(0))


def played(world, trust: Trust, method=METHOD):
    around = trust.around(method, empty(world))
    simulation = Simulation({"update": around}, world, Rules(1.0, 0.5))
    return simulation, simulation.play("update", 1)


def test_without_either_the_method_is_itself(world):
    assert Trust(None, None).around(METHOD, empty(world)) is METHOD


def test_a_rejected_set_is_named_and_has_no_part_in_the_union(world):
    simulation, report = played(world, Trust(None, Rejecting((1,))))
    assert [row["rejected"] for row in report.clients] == [None, "its face", None]
    assert [row["failure"] for row in report.clients] == [None] * 3
    assert report.totals["failures"] == 0
    without, _ = played(world, Trust(None, Rejecting(())))
    whole, kept = without.task.memory.data, simulation.task.memory.data
    assert kept.images.equal(whole.images[[*range(6), *range(12, 18)]])  # two of three classes each


def test_a_defence_that_sets_nobody_aside_changes_nothing(world):
    plain, guarded = (
        played(world, Trust(None, None))[0],
        played(world, Trust(None, Rejecting(())))[0],
    )
    first, second = (s.task.weights.to_torch_state_dict() for s in (plain, guarded))
    assert all(first[name].equal(second[name]) for name in first)


def test_a_rejection_lasts_a_round(world):
    method = Trust(None, Rejecting((1,))).around(FedDM(2, Random(), 2, RECIPE, None), empty(world))
    simulation = Simulation({"update": method}, world, Rules(1.0, 0.5))
    simulation.play("update", 1)
    assert simulation.task.rejected == {1: "its face"}
    honest = FedDM(2, Random(), 2, RECIPE, None)
    simulation.strategies["update"].method = honest
    assert [row["rejected"] for row in simulation.play("update", 2).clients] == [None] * 3


def test_a_defence_that_leaves_nobody_fails_the_round(world):
    with pytest.raises(RoundFailedError, match="must leave a client, got none: ") as failed:
        played(world, Trust(None, Rejecting((0, 1, 2))))
    assert str(failed.value).endswith("clients 0, 1, 2: its face")
    assert [row["rejected"] for row in failed.value.clients] == ["its face"] * 3


@pytest.mark.parametrize("method", [METHOD, FedDM(1, Random(), 2, RECIPE, None)])
def test_only_the_malicious_client_uploads_another_set(world, method):
    trust = Trust(BACKDOOR, None)
    attacked, plain = played(world, trust, method)[0], played(world, Trust(None, None), method)[0]
    gaps = attacked.task.memory.data.images != plain.task.memory.data.images
    changed = gaps.flatten(1).any(1).nonzero().flatten()
    (client,) = malicious(1, world)
    assert set(changed.tolist()) == {6 * client + 2, 6 * client + 3}  # its images of class 1


def test_weights_are_attacked_through_the_data(world):
    weights = [
        played(world, Trust(attack, None), FedAvg(1, RECIPE))[0].task.weights.to_torch_state_dict()
        for attack in (None, LabelFlip(0, 0, 1), LabelFlip(1, 0, 1))
    ]
    names = list(weights[0])
    assert all(weights[0][name].equal(weights[1][name]) for name in names)
    assert not all(weights[0][name].equal(weights[2][name]) for name in names)


def rows(*cells):
    return [{"client": c, "failure": f, "rejected": r} for c, f, r in cells]


def test_rejections_are_shares_of_the_uploads_that_came(world):
    (bad,) = malicious(1, world)
    one, other = (k for k in range(3) if k != bad)
    simulation, _ = played(world, Trust(BACKDOOR, Rejecting(())))
    found = Trust(BACKDOOR, Rejecting(())).metrics(
        simulation.task,
        world.clients[0][0],
        # of the honest: five came, one was set aside; of the malicious: one of two
        rows(
            *[(bad, None, "why"), (bad, None, None), (bad, "late", None)],
            *[(one, None, "why"), (one, None, None), (other, None, None)],
            *[(other, None, None), (other, None, None), (other, "late", None)],
        ),
    )
    assert found["malicious"] == [bad]
    assert found["rejected_malicious"] == 1 / 2
    assert found["rejected_honest"] == 1 / 5
    assert found["rejected_rare"] is None  # every class is held by three clients


def test_clients_with_rare_classes_are_counted_apart(world):
    # Class 2 is left with client 1 alone, class 1 with clients 0 and 1: these two are rare.
    keep = {0: [0, 1], 1: [0, 1, 2], 2: [0]}
    own = [
        [c[0].rows(torch.isin(c[0].labels, torch.tensor(keep[k])))]
        for k, c in enumerate(world.clients)
    ]
    scarce = replace(world, clients=own)
    simulation, _ = played(scarce, Trust(None, None))
    found = Trust(None, Rejecting(())).metrics(
        simulation.task,
        world.clients[0][0],
        rows((0, None, "why"), (1, None, None), (2, None, "why")),
    )
    assert found["rejected_rare"] == 1 / 2
    assert found["rejected_honest"] == 2 / 3
    assert "malicious" not in found
    assert "attack_success" not in found


def test_success_is_the_share_of_answers_that_the_attackers_want(world):
    simulation, report = played(world, Trust(BACKDOOR, None))
    test = world.clients[1][0]
    found = Trust(BACKDOOR, None).metrics(simulation.task, test, report.clients)
    wanted = BACKDOOR.trigger.wanted(test, world.normalisation)
    assert found["attack_success"] == score(simulation.task.model(), wanted)[0]
    assert "rejected_honest" not in found


def test_an_attack_that_wants_no_answer_has_no_success(world):
    simulation, report = played(world, Trust(Noise(1, 2), None))
    found = Trust(Noise(1, 2), None).metrics(simulation.task, world.clients[0][0], report.clients)
    assert found == {"malicious": malicious(1, world)}


def test_what_needs_small_sets_is_refused_for_weights():
    with pytest.raises(ValueError, match="defence must be none for a method that uploads no small"):
        Trust(None, Rejecting(())).check(FedAvg(1, RECIPE))
    with pytest.raises(ValueError, match="attack must work on a client's data"):
        Trust(BACKDOOR, None).check(FedAvg(1, RECIPE))
    Trust(LabelFlip(1, 0, 1), None).check(FedAvg(1, RECIPE))
    Trust(BACKDOOR, Rejecting(())).check(METHOD)


@pytest.mark.parametrize(
    ("attack", "gone", "message"),
    [
        (
            LabelFlip(1, 2, 1),
            [2],
            r"attack.source must be a class that has test images, 0, 1 here",
        ),
        (BACKDOOR, [0, 2], r"attack must find test images .*, got class 1 alone"),
    ],
)
def test_an_attack_that_no_test_image_judges_is_refused(world, attack, gone, message):
    test = world.clients[0][0]
    left = test.rows((~torch.isin(test.labels, torch.tensor(gone))).nonzero().flatten())
    with pytest.raises(ValueError, match=message):
        Trust(attack, None).check_test(left, world.normalisation)
    for other in (attack, Noise(1, 2), None):
        Trust(other, None).check_test(test, world.normalisation)
    Trust(Noise(1, 2), None).check_test(left, world.normalisation)


def test_a_defence_without_the_images_that_it_needs_is_refused(world):
    with pytest.raises(ValueError, match=r"dataset.validation must be > 0 for this defence"):
        Trust(None, Needy()).check_world(world, empty(world))
    Trust(None, Needy()).check_world(world, world.clients[0][0])


@pytest.mark.parametrize(("condenser", "origin"), [(Random(), "real"), (NoiseImages(), "noise")])
@pytest.mark.parametrize("kind", ["one_shot", "feddm"])
def test_the_origin_is_what_the_clients_say(world, kind, condenser, origin):
    methods = {
        "one_shot": OneShot(condenser, 2, RECIPE),
        "feddm": FedDM(1, condenser, 2, RECIPE, None),
    }
    simulation, _ = played(world, Trust(None, None), methods[kind])
    assert simulation.task.memory.origin == origin
