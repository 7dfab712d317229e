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
from distill.images import LabelledImages
from distill.kernels import FeatureKernel
from distill.labels import HardLabels, LearnedLabels, SoftLabels
from distill.network_sources import Fresh
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.kernel import KernelRidge
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
from fedcl.federated.base import MODEL, LocalTask
from fedcl.federated.channel import Channel
from fedcl.federated.feddm import FedDM
from fedcl.federated.forms import Form
from fedcl.federated.one_shot import OneShot
from fedcl.federated.rehearsal import Round, rehearse
from fedcl.federated.simulation import Simulation
from fedcl.federated.small_sets import sends_pixels
from fedcl.federated.strategy import Rules
from fedcl.stores.jpeg import Jpeg
from fedcl.trust import Trust
from fedcl.wire import BadUploadError, pack_images, pack_weights

NET, PLAIN, IPC = MLP(4, 1), Augmentation([], mirror=False), 2
MATCHING = Matching(DistributionMatching(), Fresh(NET, 1), PLAIN, 2, None)
UNROLLED = Unrolled(RealLoss(NET, 4), 2, 0.1, 0.0, None, False, PLAIN, True, None, None)
RIDGE = KernelRidge(FeatureKernel(Fresh(NET, 1)), 0.1, 4, PLAIN)
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
    objective = {HardLabels: MATCHING, SoftLabels: UNROLLED, LearnedLabels: RIDGE}[type(labels)]
    return Distillation(objective, STACKS[stack], labels, Random(), SGD(0.1, 0.0), iterations)


def one_shot(stack: str = "tiles", labels=HardLabels(), learner: Recipe = ENTROPY) -> OneShot:  # noqa: B008
    return OneShot(method(stack, labels), IPC, learner)


def made(world, own: OneShot) -> SyntheticSet:
    return condense(own.method, own.wanted(local(world)))


def local(world, client: int = 0) -> LocalTask:
    return LocalTask(
        world, client, 1, 0, {MODEL: pack_weights(world.first_network())}, RecordDict()
    )


def played(method, world):
    simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
    return simulation, simulation.play("update", 1)


CASES = [(stack, HardLabels(), ENTROPY) for stack in STACKS] + [
    (stack, labels, learner)
    for stack in ("pixels", "tiles", "bases")
    for labels, learner in (
        (SoftLabels(0.9), ENTROPY),
        (SoftLabels(0.6), SQUARED),
        (LearnedLabels(), SQUARED),
        (LearnedLabels(), ENTROPY),
    )
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
    useless = isinstance(labels, LearnedLabels) and learner is ENTROPY
    assert (read.targets is None) == (kept.targets is None or useless)
    if read.targets is not None:
        torch.testing.assert_close(read.targets, small.data.targets, atol=1e-3, rtol=1e-3)


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
    told = rehearse({"update": own}, world, Rules(1.0, 1.0), Channel(), [Round(1, 0, "update")])
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


def arrays(world, own: OneShot, **changed) -> ArrayRecord:
    found = dict(own.form.pack(made(world, own)))
    for name, value in changed.items():
        key = name.replace("__", "/")
        if value is None:
            del found[key]
        else:
            found[key] = Array(value)
    return ArrayRecord(found)


def zeros(*shape: int, dtype=np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype)


# Two images of each of three classes pay for 24 rows of 16 numbers.
BAD_CODES = {
    "no counts": ("tiles", {"counts": None}, "arrays must hold counts, got code/pixels/numbers"),
    "no range": ("tiles", {"code__pixels__range": None}, "arrays must be counts, code/pixels/numb"),
    "something else": ("tiles", {"code__more__numbers": zeros(1)}, "arrays must be counts, code/"),
    "pixels besides": ("tiles", {"images": zeros(6, 1, 8, 8)}, "arrays must be images, counts"),
    "floats": (
        "tiles",
        {"code__pixels__numbers": zeros(24, 1, 4, 4, dtype=np.float32)},
        "code/pixels/numbers must be finite uint8",
    ),
    "a range without end": (
        "tiles",
        {"code__pixels__range": np.array([0, np.inf], np.float32)},
        "code/pixels/range must be finite float32",
    ),
    "pixels without end": (
        "tiles",
        {
            "code__pixels__range": np.array([3e38, 3e38], np.float32),
            "code__pixels__numbers": np.full((24, 1, 4, 4), 255, np.uint8),
        },
        "numbers must decode to finite images",
    ),
    "more rows than images": (
        "tiles",
        {"code__pixels__numbers": zeros(7, 1, 4, 4)},
        r"numbers must be finite uint8 of shape \(24, 1, 4, 4\)",
    ),
    "other factors": (
        "low rank",
        {"code__left__numbers": zeros(6, 1, 3919, 1), "code__right__numbers": zeros(6, 1, 1, 3919)},
        r"code/left/numbers must be finite uint8 of shape \(12, 1, 8, 2\)",
    ),
    "other bases": (
        "bases",
        {"code__bases__numbers": zeros(1, 1, 1, 9999)},
        r"code/bases/numbers must be finite uint8 of shape \(2, 1, 4, 4\)",
    ),
    "smaller decoders for more rows": (
        "hallucinators",
        {"code__0.scale__numbers": zeros(2, 1, 1, 1), "counts": np.array([4, 4, 4], np.int32)},
        r"counts must be multiples of 2, at most \[2, 2, 2\], got \[4, 4, 4\]",
    ),
    "more of a class than are paid for": (
        "tiles",
        {"counts": np.array([9, 8, 8], np.int32)},
        r"at most \[8, 8, 8\], got \[9, 8, 8\]",
    ),
    "half a row": (
        "hallucinators",
        {"counts": np.array([1, 1, 2], np.int32)},
        r"counts must be multiples of 2, at most \[2, 2, 2\], got \[1, 1, 2\]",
    ),
    "a class too many": ("tiles", {"counts": zeros(4, dtype=np.int32)}, "counts must be int32"),
    "less than nothing": ("tiles", {"counts": np.array([8, 8, -8], np.int32)}, "counts must be in"),
    "no image": ("tiles", {"counts": zeros(3, dtype=np.int32)}, "counts must be of at least one"),
    "more than a memory holds": (
        "tiles",
        {"counts": np.full(3, np.iinfo(np.int32).max, np.int32)},
        r"counts must be multiples of 1, at most \[8, 8, 8\]",
    ),
}


@pytest.mark.parametrize("case", BAD_CODES)
def test_numbers_that_are_no_such_set_are_refused(world, case):
    stack, changed, reason = BAD_CODES[case]
    own = one_shot(stack)
    with pytest.raises(BadUploadError, match=reason):
        own.form.check(arrays(world, own, **changed), world, IPC)


def targets(value: float, rows: int = 6) -> np.ndarray:
    return np.full((rows, 3), value, np.float16)


BAD_TARGETS = {
    "of classes that nobody learns": (HardLabels(), ENTROPY, targets(1 / 3), "which nobody learns"),
    "of other images": (SoftLabels(0.9), ENTROPY, targets(1 / 3, 5), r"of shape \(6, 3\)"),
    "below nothing": (SoftLabels(0.9), ENTROPY, targets(-1.0), "targets must be distributions"),
    "of too much": (SoftLabels(0.9), ENTROPY, targets(100.0), "targets must be distributions"),
    "of nothing": (SoftLabels(0.9), ENTROPY, targets(0.0), "targets must be distributions"),
    "without end": (LearnedLabels(), SQUARED, targets(np.inf), "targets must be finite"),
    "no numbers": (LearnedLabels(), SQUARED, targets(np.nan), "targets must be finite"),
    "far from all": (LearnedLabels(), SQUARED, targets(5.1), r"targets must be in \[-5, 5\]"),
    "of another type": (
        LearnedLabels(),
        SQUARED,
        zeros(6, 3, dtype=np.float32),
        "targets must be finite float16",
    ),
}


@pytest.mark.parametrize("case", BAD_TARGETS)
def test_labels_that_mislead_are_refused(world, case):
    labels, learner, sent, reason = BAD_TARGETS[case]
    own = one_shot("pixels", labels, learner)
    with pytest.raises(BadUploadError, match=reason):
        own.form.check(arrays(world, own, targets=sent), world, IPC)


def test_labels_far_from_all_are_sent_as_far_as_is_allowed(world):
    own = one_shot("pixels", LearnedLabels(), SQUARED)
    small = made(world, own)
    far = replace(small, data=replace(small.data, targets=small.data.targets * 100))
    record = own.form.pack(far)
    own.form.check(record, world, IPC)
    assert own.form.read(record, world).targets.abs().max() == 5


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("counts", [[1, 0, 0], [1, 1, 1], [7, 0, 1], [2, 3, 9]], ids=str)
def test_an_honest_client_is_taken_however_its_classes_lie(world, stack, counts):
    own = replace(one_shot(stack), ipc=4)
    labels = torch.arange(3).repeat_interleave(torch.tensor(counts))
    rng = torch.Generator().manual_seed(0)
    data = LabelledImages(torch.randn(len(labels), 1, 8, 8, generator=rng), labels, 3)
    there = replace(world, clients=[[data]])
    task = local(there)
    record = own.local_update(task)["images"]
    own.form.check(record, there, own.ipc)
    held = own.form.read(record, there).counts
    assert ((held > 0) == (torch.tensor(counts) > 0)).all()
    sketched = own.sketch(task).records["images"]
    assert {n: (a.dtype, a.shape) for n, a in sketched.items()} == {
        n: (a.dtype, a.shape) for n, a in record.items()
    }


def test_a_client_whose_images_pay_for_no_code_may_spend_what_others_may(world):
    # Two hallucinators take 2 x (2 x 9 + 2 x 36) numbers: four images of 64 pay for them and a row.
    own = one_shot("hallucinators")
    data = world.clients[0][0].rows(torch.tensor([0]))
    few, many = replace(world, clients=[[data]]), world
    assert own.wanted(local(few)).counts.tolist() == [2, 0, 0]
    assert own.wanted(local(many)).counts.tolist() == [2, 2, 2]
    rounds = FedDM(1, own.method, IPC, ENTROPY, None)
    assert rounds.wanted(local(few)).counts.tolist() == [2, 0, 0]
    assert one_shot("pixels").wanted(local(few)).counts.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="ipc must be >= 4 for this parameterisation, got 2"):
        own.local_update(local(few))
    assert replace(own, ipc=4).local_update(local(few))["images"]["counts"].numpy()[0] == 2
