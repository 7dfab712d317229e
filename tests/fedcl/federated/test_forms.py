"""Small sets of any method cross the wire as their store keeps them, or are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from distill.augment import Augmentation
from distill.condenser import condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.labels import HardLabels, SoftLabels
from distill.network_sources import Fresh
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching
from distill.objectives.real_loss import RealLoss
from distill.objectives.unrolled import Unrolled
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.generated import Generated
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.low_rank import LowRank
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.rng import derive
from distill.synthetic import SyntheticSet
from distill.training import Recipe, train
from fedcl.attacks.backdoor import Backdoor
from fedcl.attacks.trigger import Trigger
from fedcl.defences.class_means import ClassMeans
from fedcl.defences.leave_one_out import LeaveOneOut
from fedcl.federated.base import LocalTask
from fedcl.federated.channel import Channel
from fedcl.federated.feddm import FedDM
from fedcl.federated.forms import Form
from fedcl.federated.one_shot import OneShot
from fedcl.federated.rehearsal import rehearse
from fedcl.federated.simulation import Simulation
from fedcl.federated.small_sets import sends_pixels
from fedcl.federated.strategy import Rules
from fedcl.stores.jpeg import Jpeg
from fedcl.trust import Trust
from fedcl.wire import BadUploadError, pack_images

NET, PLAIN, IPC = MLP(4, 1), Augmentation([], mirror=False), 2
MATCHING = Matching(DistributionMatching(), Fresh(NET, 1), PLAIN, 2, None)
UNROLLED = Unrolled(RealLoss(NET, 4), 2, 0.1, 0.0, None, False, PLAIN, True, None, None)
ENTROPY = Recipe(2, 4, 0.1, 0.0, 0.0, None, PLAIN)
SQUARED = replace(ENTROPY, loss="squared")
LEARNERS = {"cross_entropy": ENTROPY, "squared": SQUARED}

STACKS = {
    "pixels": Parameterisation(Pixels(clip=True)),
    "tiles": Parameterisation(Pixels(clip=True), [Upsample(2)]),
    "bases": Parameterisation(LinearBases(2, 3), [Upsample(2)]),
    "low rank": Parameterisation(LowRank(2)),
    "hallucinators": Parameterisation(Pixels(clip=False), [Hallucinators(2, 1)]),
}


def method(stack: str = "tiles", labels=HardLabels(), iterations: int = 1) -> Distillation:  # noqa: B008
    objective = MATCHING if isinstance(labels, HardLabels) else UNROLLED
    return Distillation(objective, STACKS[stack], labels, Random(), SGD(0.1, 0.0), iterations)


def one_shot(stack: str = "tiles", labels=HardLabels(), learner: Recipe = ENTROPY) -> OneShot:  # noqa: B008
    return OneShot(method(stack, labels), IPC, learner)


def made(world, own: OneShot) -> SyntheticSet:
    return condense(own.method, own.wanted(local(world)))


def local(world, client: int = 0) -> LocalTask:
    return LocalTask(world, client, 1, 0, {}, RecordDict())


def played(method, world):
    simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
    return simulation, simulation.play("update", 1)


CASES = [(stack, HardLabels(), ENTROPY) for stack in STACKS] + [
    (stack, labels, learner)
    for stack in ("pixels", "tiles", "bases")
    for labels, learner in ((SoftLabels(0.9), ENTROPY), (SoftLabels(0.6), SQUARED))
]


@pytest.mark.parametrize(("stack", "labels", "learner"), CASES, ids=str)
def test_a_server_reads_what_the_store_of_a_byte_a_number_keeps(world, stack, labels, learner):
    own = one_shot(stack, labels, learner)
    small = made(world, own)
    record = own.form.pack(small)
    own.form.check(record, world, IPC)
    read, kept = own.form.read(record, world), small.stored("uint8").data
    assert read.images.equal(world.normalisation.clip(kept.images))
    assert read.labels.equal(kept.labels)
    assert (read.targets is None) == (kept.targets is None)
    if read.targets is not None:
        assert read.targets.equal(kept.targets)


def test_four_half_resolution_images_take_the_bytes_of_one(world):
    # Two images of each of three classes pay for eight: 2 x 64 bytes, of 16 an image.
    own = one_shot("tiles")
    record = own.form.pack(made(world, own))
    assert {name: array.numpy().nbytes for name, array in record.items()} == {
        "code/pixels/numbers": 3 * 2 * 64,
        "code/pixels/range": 8,
        "counts": 3 * 4,
    }
    assert record["counts"].numpy().tolist() == [8, 8, 8]


def test_labels_that_the_servers_loss_cannot_use_stay_behind(world):
    data = world.clients[0][0]
    numbers = torch.randn(len(data), 3, generator=torch.Generator().manual_seed(0))
    ordered = data.labels.argsort(stable=True)
    small = SyntheticSet(replace(data.rows(ordered), targets=numbers), world.normalisation, "real")
    learners = {"none": None, **LEARNERS}
    sent = {loss: Form(Random(), recipe).pack(small) for loss, recipe in learners.items()}
    assert set(sent["none"]) == set(sent["cross_entropy"]) == {"images", "counts"}
    assert set(sent["squared"]) == {"images", "counts", "targets/numbers", "targets/range"}


@pytest.mark.parametrize("kind", [OneShot, FedDM])
def test_the_server_trains_on_the_union_of_what_was_decoded(world, kind):
    own = one_shot() if kind is OneShot else FedDM(1, method(), IPC, ENTROPY, None)
    simulation, report = played(own, world)
    assert [row["failure"] for row in report.clients] == [None] * 3
    memory = simulation.task.memory.data
    assert memory.counts.tolist() == [3 * 8] * 3  # of three clients, each of whom holds two
    network = world.first_network()
    names = ("server training",) if kind is OneShot else ("server training", 1)
    train(network, memory, ENTROPY, derive(world.seed, *names))
    found = simulation.task.weights.to_torch_state_dict()
    assert all(found[name].equal(value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("loss", LEARNERS)
def test_sets_without_labels_among_others_are_answered_by_class(world, loss):
    form = Form(Random(), LEARNERS[loss])
    plain = world.clients[1][0]
    soft = replace(world.clients[0][0], targets=torch.full((12, 3), 1 / 3))
    assert form.alike([plain, plain])[0].targets is None
    _, filled = form.alike([soft, plain])
    networks = [world.first_network() for _ in range(2)]
    for network, data in zip(networks, (plain, filled), strict=True):
        train(network, data, LEARNERS[loss], derive(0, "order"))
    for mine, theirs in zip(*(network.parameters() for network in networks), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(("stack", "labels", "learner"), CASES, ids=str)
def test_a_rehearsal_sends_as_many_bytes(world, stack, labels, learner):
    own = one_shot(stack, labels, learner)
    told = rehearse({"update": own}, world, Rules(1.0, 1.0), Channel(), [(0, "update")])
    keys = ("bytes_up", "payload_bytes")
    wanted = [[row[key] for key in keys] for row in played(own, world)[1].clients]
    assert [[row[key] for key in keys] for row in told.reports[0].clients] == wanted


def test_pixels_are_taken_under_any_method(world):
    form, data = one_shot("bases").form, world.clients[0][0]
    ordered = data.rows(data.labels.argsort(stable=True)[[0, 1, 4, 5, 8, 9]])
    record = pack_images(SyntheticSet(ordered, world.normalisation, "real"))
    form.check(record, world, IPC)
    torch.testing.assert_close(form.read(record, world).images, ordered.images)


def test_attacks_and_defences_meet_decoded_images(world):
    attack = Backdoor(1, Trigger(2, 1), 2)
    for defence in (None, ClassMeans(1, 3.0)):
        trust = Trust(attack, defence)
        for own in (one_shot("tiles"), one_shot("pixels", SoftLabels(0.9))):
            trust.check(own)
            around = trust.around(own, world.clients[0][0].rows(torch.arange(0)))
            _, report = played(around, world)
            assert [row["failure"] for row in report.clients] == [None] * 3


def test_a_defence_that_trains_on_others_sets_sees_labels_beside_classes(world):
    own = one_shot("pixels", SoftLabels(0.9))
    trust = Trust(Backdoor(1, Trigger(2, 1), 2), LeaveOneOut(ENTROPY, 9.0))
    _, report = played(trust.around(own, world.clients[1][0]), world)
    assert [row["failure"] for row in report.clients] == [None] * 3


def test_labels_travel_beside_compressed_images(world):
    own, store = one_shot("pixels", SoftLabels(0.9)), Jpeg(50)
    memories = []
    for channel in (Channel(), Channel(images=store)):
        simulation = Simulation({"update": own}, world, Rules(1.0, 1.0), channel)
        simulation.play("update", 1)
        memories.append(simulation.task.memory.data)
    assert memories[1].targets.equal(memories[0].targets)
    assert not memories[1].images.equal(memories[0].images)


def test_a_generator_is_refused(world):
    stack = Parameterisation(Pixels(clip=False), [Generated(0, 4, 2, 2, 1, 2, 0.01, None)])
    with pytest.raises(ValueError, match="method must learn all that decodes its images"):
        OneShot(replace(method(), parameterisation=stack), IPC, ENTROPY)


def test_only_methods_of_pixels_can_have_them_compressed():
    assert sends_pixels(one_shot("pixels"))
    assert not sends_pixels(one_shot("tiles"))


def arrays(world, stack: str = "tiles", **changed) -> ArrayRecord:
    own = one_shot(stack)
    found = dict(own.form.pack(made(world, own)))
    for name, value in changed.items():
        key = name.replace("__", "/")
        if value is None:
            del found[key]
        else:
            found[key] = Array(value)
    return ArrayRecord(found)


COUNTS = np.array([8, 8, 8], np.int32)
BAD = {
    "no range": ({"code__pixels__range": None}, "arrays must be counts and pairs code/NAME/numb"),
    "something else": ({"labels": COUNTS}, "arrays must be counts and pairs"),
    "nothing but counts": (
        {"code__pixels__range": None, "code__pixels__numbers": None},
        "numbers must decode to images",
    ),
    "floats": (
        {"code__pixels__numbers": np.zeros((6, 1, 4, 4), np.float32)},
        "code/pixels/numbers must be finite uint8",
    ),
    "a range without end": (
        {"code__pixels__range": np.array([0, np.inf], np.float32)},
        "code/pixels/range must be finite float32",
    ),
    "pixels without end": (
        {
            "code__pixels__range": np.array([3e38, 3e38], np.float32),
            "code__pixels__numbers": np.full((24, 1, 4, 4), 255, np.uint8),
        },
        "numbers must decode to finite images",
    ),
    "more images than rows": (
        {"code__pixels__numbers": np.zeros((5, 1, 4, 4), np.uint8)},
        "numbers must decode to images",
    ),
    "more of a class than are paid for": (
        {"counts": np.array([8, 9, 8], np.int32)},
        "got 9 of a class, at most 8 paid",
    ),
    "more numbers than are paid for": (
        {"code__pixels__numbers": np.zeros((25, 1, 4, 4), np.uint8)},
        "got 400 of them, at most 384 paid",
    ),
    "a name that the parameterisation has not": (
        {
            "code__bases__numbers": np.zeros((1, 4), np.uint8),
            "code__bases__range": np.zeros(2, np.float32),
            "code__pixels__numbers": None,
            "code__pixels__range": None,
        },
        "numbers must decode to images",
    ),
    "a class too many": ({"counts": np.array([8, 8, 8, 8], np.int32)}, "counts must be int32"),
    "less than nothing": ({"counts": np.array([8, 8, -8], np.int32)}, "counts must be in"),
    "no image": ({"counts": np.zeros(3, np.int32)}, "numbers must decode to images"),
    "more than a memory holds": (
        {"counts": np.full(3, np.iinfo(np.int32).max, np.int32)},
        "at most 8 paid",
    ),
    "labels of other images": (
        {
            "targets__numbers": np.zeros((23, 3), np.uint8),
            "targets__range": np.zeros(2, np.float32),
        },
        r"targets/numbers must be finite uint8 of shape \(24, 3\)",
    ),
    "labels that are no distributions": (
        {
            "targets__numbers": np.zeros((24, 3), np.uint8),
            "targets__range": np.array([-1, 0], np.float32),
        },
        "targets must be of use to the server's loss",
    ),
    "half of the labels": (
        {"targets__numbers": np.zeros((24, 3), np.uint8)},
        "targets must be targets/numbers, targets/range, got targets/numbers",
    ),
}


def test_images_of_another_shape_are_refused(world):
    record = arrays(
        world,
        "low rank",
        code__left__numbers=np.zeros((3, 1, 9, 2), np.uint8),
        code__right__numbers=np.zeros((3, 1, 2, 9), np.uint8),
        counts=np.ones(3, np.int32),
    )
    with pytest.raises(BadUploadError, match=r"of shape \(1, 8, 8\), got \(1, 9, 9\)"):
        one_shot("low rank").form.check(record, world, IPC)


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_such_set_is_refused(world, case):
    changed, reason = BAD[case]
    with pytest.raises(BadUploadError, match=reason):
        one_shot().form.check(arrays(world, **changed), world, IPC)
