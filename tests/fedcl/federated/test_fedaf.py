"""FedAF's clients tell of their classes; the server takes means, and trains on what they sent."""

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.coresets import Random
from distill.engine import Distillation
from distill.labels import HardLabels
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.matching import Matching, Statistic
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.resampled import Resampled
from fedcl.federated.base import LocalTask, ServerTask, Upload
from fedcl.federated.fedaf import FedAF, knowledge, knowledge_gap, means_over_clients
from fedcl.federated.feddm import FedDM
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import BadUploadError, pack_weights

NET = MLP(4, 1)
PLAIN = Augmentation([], mirror=False)


def distilling(statistic: Statistic) -> Distillation:
    matching = Matching(statistic, Resampled(NET, 0.9, 1), PLAIN, 9, None)
    pixels = Parameterisation(Pixels(True))
    return Distillation(matching, pixels, HardLabels(), Random(), SGD(0.1, 0.0), 2)


DM = distilling(DistributionMatching())


@pytest.fixture
def method(plain) -> FedAF:
    return FedAF(3, DM, 2, plain(2), 0.5, 0.5, 2.0)


def played(method, world, rounds: int) -> Simulation:
    simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
    for number in range(1, rounds + 1):
        simulation.play("update", number)
    return simulation


def flat(simulation: Simulation) -> torch.Tensor:
    weights = simulation.task.weights.to_torch_state_dict()
    return torch.cat([w.flatten() for w in weights.values()])


def upload(method, world, client: int) -> Upload:
    sent = {"arrays": pack_weights(world.first_network())}
    records = method.local_update(LocalTask(world, client, 1, 0, sent, RecordDict()))
    return Upload(client, len(world.clients[client][0]), records)


def server(world) -> ServerTask:
    return ServerTask(world, 1, 0, pack_weights(world.first_network()), None)


def told(client: int, counts: list[int], rows: list[list[float]]) -> Upload:
    images = ArrayRecord({"counts": Array(np.array(counts, np.int32))})
    known = ArrayRecord({"logits": Array(np.array(rows, np.float16))})
    return Upload(client, 1, {"images": images, "knowledge": known})


def test_knowledge_agrees_with_the_naive_loop(world):
    network, (data,) = world.first_network(), world.clients[0]
    some = data.rows((data.labels != 1).nonzero().flatten())
    logits, soft = knowledge(network, some, 2.0)
    for row, label in enumerate((0, 2)):
        z = network(some.images[some.labels == label])
        torch.testing.assert_close(logits[row], z.mean(0))
        torch.testing.assert_close(soft[row], (z / 2).softmax(1).mean(0))
    assert len(logits) == len(soft) == 2


def test_a_class_gets_the_mean_over_the_clients_that_have_it():
    # Class 0 is of both clients, 1 of nobody, 2 of the second alone.
    uploads = [told(0, [2, 0, 0], [[1, 2, 3]]), told(1, [1, 0, 4], [[3, 4, 5], [7, 8, 9]])]
    means = means_over_clients(uploads, "logits")
    assert {label: row.tolist() for label, row in means.items()} == {0: [2, 3, 4], 2: [7, 8, 9]}


def test_the_gap_is_half_of_both_divergences():
    # T of class 1 is the mean of (.5, .5) and (.9, .1): (.7, .3); R is (.2, .8).
    # class 0 has T = R, so that the mean over both classes is half of class 1's.
    logits = torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.6, 0.4]]).log()
    known = {0: torch.tensor([0.6, 0.4]), 1: torch.tensor([0.2, 0.8])}
    one = 0.2 * math.log(0.2 / 0.7) + 0.8 * math.log(0.8 / 0.3)
    other = 0.7 * math.log(0.7 / 0.2) + 0.3 * math.log(0.3 / 0.8)
    gap = knowledge_gap(logits, torch.tensor([1, 1, 0]), known)
    assert gap.item() == pytest.approx((one + other) / 2 / 2)


def test_a_step_against_the_gap_narrows_it(rng):
    logits = torch.randn(6, 3, generator=rng, requires_grad=True)
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    known = {label: torch.randn(3, generator=rng).softmax(0) for label in range(3)}
    gap = knowledge_gap(logits, classes, known)
    gap.backward()
    assert knowledge_gap(logits.detach() - logits.grad, classes, known) < gap


def test_a_probability_of_zero_leaves_the_gap_finite():
    gap = knowledge_gap(
        torch.tensor([[90.0, -90.0]]), torch.tensor([0]), {0: torch.tensor([0.0, 1.0])}
    )
    assert gap.isfinite()


def test_the_servers_step_follows_both_losses(method, world, plain):
    # One step on all 18 images, by autograd from the last weights.
    whole = replace(method, server=plain(1, batch=18))
    sent = [upload(whole, world, client) for client in range(3)]
    ended = whole.aggregate(server(world), iter(sent))
    network, data = world.first_network(), ended.memory.data
    logits = network(data.images)
    R = torch.stack([*means_over_clients(sent, "labels").values()])
    T = torch.stack([(logits / 2).softmax(1)[data.labels == c].mean(0) for c in range(3)])
    both = F.kl_div(T.log(), R, reduction="sum") + F.kl_div(R.log(), T, reduction="sum")
    (F.cross_entropy(logits, data.labels) + 0.5 * both / 2 / 3).backward()
    found = ended.weights.to_torch_state_dict()
    for name, w in network.named_parameters():
        torch.testing.assert_close(found[name], w.detach() - 0.1 * w.grad, rtol=1e-4, atol=1e-6)


@dataclass(frozen=True)
class Noting(Statistic):
    """Pulls nowhere."""

    seen: list = field(default_factory=list)

    def pull(self, network, real, synthetic, rng):
        return 0.0, torch.zeros_like(synthetic.images)


def test_clients_are_bound_to_the_mean_logits_of_the_round_before(method, world):
    # A statistic that pulls nowhere: in round 1 the images stay, in round 2 the bond moves them.
    bound = replace(method, method=distilling(Noting()), local_weight=100.0)
    free = replace(bound, local_weight=0.0)
    pictures = {}
    for name, each in (("bound", bound), ("free", free)):
        for rounds in (1, 2):
            pictures[name, rounds] = played(each, world, rounds).task.memory.data.images
    assert pictures["bound", 1].equal(pictures["free", 1])
    assert not pictures["bound", 2].equal(pictures["free", 2])


def test_the_logits_go_down_in_half_precision_from_the_second_round_on(method, world):
    simulation = played(method, world, 1)
    first = method.broadcast(server(world))
    assert set(first) == {"arrays"}
    means = method.broadcast(simulation.task)["knowledge"]
    assert means["logits"].numpy().dtype == np.float16
    assert means["classes"].numpy().tolist() == [0, 1, 2]
    wanted = means_over_clients([upload(method, world, k) for k in range(3)], "logits")
    torch.testing.assert_close(
        means.to_torch_state_dict()["logits"].float(),
        torch.stack([*wanted.values()]),
        rtol=1e-3,
        atol=1e-3,
    )


def test_without_both_bonds_it_is_feddm_without_a_radius(method, world):
    free = replace(method, local_weight=0.0, global_weight=0.0)
    dm = FedDM(3, DM, 2, method.server, None)
    torch.testing.assert_close(flat(played(free, world, 2)), flat(played(dm, world, 2)))
    assert not flat(played(method, world, 2)).allclose(flat(played(free, world, 2)))


def test_a_resumed_run_ends_as_an_unbroken_one(method, world):
    unbroken, second = played(method, world, 3), Simulation({"update": method}, world, Rules(1, 1))
    second.restore(played(method, world, 2).state())
    second.play("update", 3)
    assert flat(unbroken).equal(flat(second))


def test_an_upload_is_images_as_bytes_and_two_bytes_a_number(method, world):
    records = upload(method, world, 0).records
    sizes = {
        name: sum(array.numpy().nbytes for array in record.values())
        for name, record in records.items()
    }
    assert sizes == {"images": 6 * 64 + 3 * 4, "knowledge": 2 * (3 * 3 * 2)}


ROWS = np.full((3, 3), 1 / 3, np.float16)
BAD = {
    "logits nan": ("logits", ROWS * np.float16("nan"), "logits must be finite float16"),
    "logits float32": ("logits", ROWS.astype(np.float32), "got float32 of shape"),
    "logits of fewer classes": ("logits", ROWS[:2], r"of shape \(3, 3\), got float16 of shape \(2"),
    "labels infinite": ("labels", ROWS * np.float16("inf"), "labels must be finite float16"),
    "labels float64": ("labels", ROWS.astype(np.float64), "got float64 of shape"),
    "labels of more classes": ("labels", np.vstack([ROWS, ROWS]), r"got float16 of shape \(6, 3\)"),
    "labels no distributions": ("labels", ROWS * 2, "labels must be distributions"),
    "one array more": ("more", ROWS, "arrays must be logits, labels, got"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_uploads_are_refused(method, world, case):
    name, array, reason = BAD[case]
    good = upload(method, world, 0)
    method.check(good, server(world))
    arrays = {key: old.numpy() for key, old in good.records["knowledge"].items()} | {name: array}
    record = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    with pytest.raises(BadUploadError, match=reason):
        method.check(replace(good, records={**good.records, "knowledge": record}), server(world))


def test_an_upload_of_too_many_images_or_without_knowledge_is_refused(method, world):
    good = upload(method, world, 0)
    with pytest.raises(BadUploadError, match="records must be images, knowledge, got images"):
        method.check(replace(good, records={"images": good.records["images"]}), server(world))
    with pytest.raises(BadUploadError, match=r"counts must be in \[0, 1\], got 2 to 2"):
        replace(method, ipc=1).check(good, server(world))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"method": Random()}, "method must match a statistic for fedaf; take method=dm"),
        ({"ipc": 0}, "ipc must be >= 1"),
        ({"local_weight": -1}, "federated.local_weight must be >= 0, got -1"),
        ({"global_weight": -1}, "federated.global_weight must be >= 0, got -1"),
        ({"temperature": 0}, "federated.temperature must be > 0, got 0"),
    ],
)
def test_bad_values_are_refused(method, changes, reason):
    with pytest.raises(ValueError, match=reason):
        replace(method, **changes)


def test_mixed_images_are_refused(method):
    with pytest.raises(ValueError, match=r"evaluation.recipe.cutmix must be 0 for fedaf, .* 0.5"):
        replace(method, server=replace(method.server, cutmix=0.5))
