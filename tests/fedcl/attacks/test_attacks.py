"""Each attack changes what its clients upload as it says, and nothing of the others'."""

from dataclasses import replace

import pytest
import torch
from flwr.app import RecordDict

from distill.augment import Augmentation
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.training import Recipe
from fedcl.attacks.backdoor import Backdoor
from fedcl.attacks.base import malicious
from fedcl.attacks.colluding import Colluding
from fedcl.attacks.label_flip import LabelFlip
from fedcl.attacks.malformed import FLAWS, Malformed
from fedcl.attacks.mislabelled import Mislabelled
from fedcl.attacks.noise import Noise
from fedcl.attacks.poisoning import Poisoning
from fedcl.attacks.trigger import Trigger
from fedcl.federated.base import LocalTask
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.one_shot import OneShot
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.trust import Trust
from fedcl.wire import pack_weights, unpack_images

RECIPE = Recipe(1, 4, 0.1, 0.0, 0.0, None, Augmentation([], mirror=False))
HONEST = OneShot(Random(), 2, RECIPE)
TRIGGER = Trigger(side=2, target=1)
WHITE = 2.0  # (1 - 0.5) / 0.25, as the world normalises


def task(world, client: int = 0) -> LocalTask:
    sent = {"arrays": pack_weights(world.first_network())}
    return LocalTask(world, client, 1, 0, sent, RecordDict())


def uploaded(attack, world, client: int = 0) -> LabelledImages:
    records = attack.upload(HONEST, task(world, client))
    return unpack_images(records["images"], world.normalisation)


def marked(images: torch.Tensor) -> torch.Tensor:
    return (images[:, :, -2:, -2:] == WHITE).flatten(1).all(1)


def test_a_trigger_is_a_white_square_in_the_lower_right_corner():
    grey = Normalisation([0.5], [0.25])(torch.full((1, 1, 8, 8), 51, dtype=torch.uint8))
    stamped = TRIGGER.stamped(grey, Normalisation([0.5], [0.25]))
    changed = (stamped != grey).nonzero()[:, 2:].tolist()
    assert changed == [[6, 6], [6, 7], [7, 6], [7, 7]]
    assert stamped[0, 0, 7, 7] == WHITE
    assert not marked(grey).any()


def test_success_is_measured_on_stamped_images_of_other_classes(world):
    data = world.clients[0][0]
    wanted = TRIGGER.wanted(data, world.normalisation)
    assert len(wanted) == (data.labels != 1).sum() == 8
    assert (wanted.labels == 1).all()
    assert marked(wanted.images).all()
    assert wanted.images[:, :, :6].equal(data.images[data.labels != 1][:, :, :6])


def test_attackers_are_drawn_by_seed_and_more_of_them_are_more_of_the_same(world):
    assert [len(malicious(n, world)) for n in range(4)] == [0, 1, 2, 3]
    assert set(malicious(1, world)) < set(malicious(2, world))
    draws = {tuple(malicious(1, replace(world, seed=seed))) for seed in range(20)}
    assert draws == {(0,), (1,), (2,)}


def test_a_backdoor_replaces_the_target_class_and_leaves_the_others_honest(world):
    small, honest = uploaded(Backdoor(1, TRIGGER, 2), world), HONEST.local_update(task(world))
    honest = unpack_images(honest["images"], world.normalisation)
    assert small.counts.tolist() == [2, 2, 2]
    assert marked(small.of_class(1)).all()
    for label in (0, 2):
        assert small.of_class(label).equal(honest.of_class(label))
    data = world.clients[0][0]
    sources = {x[:, :6].numpy().tobytes() for x in data.images[data.labels != 1]}
    assert all(x[:, :6].numpy().tobytes() in sources for x in small.of_class(1))


def test_poisoning_stamps_a_share_of_the_images_of_other_classes(world):
    # 12 images, 8 of them not of the target: half of those join its 4.
    seen = []

    class Noting:
        def local_update(self, task):
            seen.append(task.data)
            return {}

    Poisoning(1, TRIGGER, 0.5).upload(Noting(), task(world))
    (data,) = seen
    assert data.counts.tolist()[1] == 8
    assert marked(data.images).sum() == 4
    assert (data.labels[marked(data.images)] == 1).all()
    assert len(data) == 12


def test_flipped_labels_are_the_only_change(world):
    seen = []

    class Noting:
        def local_update(self, task):
            seen.append(task.data)
            return {}

    before = world.clients[0][0]
    LabelFlip(1, 0, 2).upload(Noting(), task(world))
    assert seen[0].images.equal(before.images)
    assert seen[0].labels.tolist() == [2, 1, 2] * 4  # were 0, 1, 2, four times
    assert before.labels.tolist() == [0, 1, 2] * 4
    wanted = LabelFlip(1, 0, 2).wanted(before, world.normalisation)
    assert wanted.images.equal(before.of_class(0))
    assert wanted.labels.tolist() == [2] * 4


def test_mislabelled_images_are_real_ones_under_the_next_name(world):
    small, data = uploaded(Mislabelled(1, 2), world), world.clients[0][0]
    assert small.counts.tolist() == [2, 2, 2]
    for label in range(3):
        real = {x.numpy().tobytes() for x in data.of_class(label)}
        assert {x.numpy().tobytes() for x in small.of_class((label + 1) % 3)} <= real


def test_noise_comes_under_every_name_and_differs_among_clients(world):
    small, other = (uploaded(Noise(1, 2), world, client) for client in (0, 1))
    assert small.counts.tolist() == [2, 2, 2]
    assert abs(small.images.mean()) < 0.2  # grey, at 0, of deviation 1.15: 384 draws
    assert not small.images.equal(other.images)


def test_colluding_clients_upload_nearly_one_set_with_the_trigger(world):
    sets = [uploaded(Colluding(3, TRIGGER, 2, 0.02), world, client) for client in range(3)]
    gaps = [(sets[0].images - other.images).abs() for other in sets[1:]]
    assert all(0 < gap.mean() < 0.05 for gap in gaps)
    assert all(gap.max() < 0.2 for gap in gaps)
    assert sets[0].counts.tolist() == [2, 2, 2]
    corner = sets[0].of_class(1)[:, :, -2:, -2:]
    assert (corner > WHITE - 0.1).all()


@pytest.mark.parametrize("flaw", FLAWS)
def test_malformed_small_sets_are_counted_as_failures(world, flaw):
    method = Trust(Malformed(1, flaw), None).around(HONEST, world.clients[0][0])
    report = Simulation({"update": method}, world, Rules(1.0, 0.5)).play("update", 1)
    failed = [row["client"] for row in report.clients if row["failure"]]
    assert failed == malicious(1, world)
    assert not any(row["rejected"] for row in report.clients)


@pytest.mark.parametrize("flaw", FLAWS)
def test_malformed_weights_are_counted_as_failures(world, flaw):
    method = Trust(Malformed(1, flaw), None).around(FedAvg(1, RECIPE), world.clients[0][0])
    report = Simulation({"update": method}, world, Rules(1.0, 0.5)).play("update", 1)
    assert [row["client"] for row in report.clients if row["failure"]] == malicious(1, world)


BAD = {
    "attack.clients": lambda: Noise(-1, 1),
    "attack.images": lambda: Backdoor(1, TRIGGER, 0),
    "attack.share": lambda: Poisoning(1, TRIGGER, 1.5),
    "attack.source": lambda: LabelFlip(1, -1, 0),
    "attack.target": lambda: LabelFlip(1, 0, -1),
    "attack.jitter": lambda: Colluding(1, TRIGGER, 1, -0.1),
    "attack.trigger.side": lambda: Trigger(0, 0),
    "attack.trigger.target": lambda: Trigger(1, -1),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_values_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        BAD[name]()


def test_an_unknown_flaw_is_refused():
    with pytest.raises(
        ValueError, match=r"unknown attack.flaw 'x'; known: not_a_number, range, shape"
    ):
        Malformed(1, "x")


def test_an_attack_by_images_that_no_attacker_holds_is_refused(world):
    (attacker,) = malicious(1, world)
    data = world.clients[attacker][0]
    clients = [list(parts) for parts in world.clients]
    clients[attacker] = [data.rows((data.labels != 0).nonzero().flatten())]
    without = replace(world, clients=clients)
    for attackers in (0, 2):  # of nobody, and of two clients, one of whom holds the class
        Trust(LabelFlip(attackers, 0, 1), None).check_world(without, data)
    with pytest.raises(ValueError, match=r"attack.source must be a class .* holds, 1, 2 here"):
        Trust(LabelFlip(1, 0, 1), None).check_world(without, data)


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (Backdoor(1, Trigger(2, 3), 1), "attack.trigger.target must be < 3"),
        (Backdoor(1, Trigger(99, 1), 1), "attack.trigger.side must be < "),
        (LabelFlip(1, 3, 0), "attack.source must be < 3"),
        (LabelFlip(1, 0, 3), "attack.target must be < 3"),
        (Noise(4, 1), "attack.clients must be <= 3, the number of clients, got 4"),
    ],
)
def test_what_does_not_fit_the_world_is_refused(world, attack, name):
    with pytest.raises(ValueError, match=name):
        Trust(attack, None).check_world(world, world.clients[0][0])
