"""DOSFL's server takes every client's learned steps from the first network, in turn."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.condenser import Task, condense
from distill.coresets import Noise, Random
from distill.engine import Distillation
from distill.labels import HardLabels, SoftLabels
from distill.learned import Learned
from distill.networks import MLP
from distill.objectives.real_loss import RealLoss
from distill.objectives.soft_reset import SoftReset
from distill.objectives.unrolled import Unrolled
from distill.optimisers import Adam
from distill.parameterisations.base import Code, Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.pullback import weights_of
from distill.real import RealData
from distill.rng import subseed
from distill.training import score
from fedcl.federated.base import LocalTask, ServerTask, Upload
from fedcl.federated.dosfl import DOSFL
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import BadUploadError, pack_weights

NET = MLP(4, 1)
PLAIN = Augmentation([], mirror=False)
UNROLLED = Unrolled(
    SoftReset(RealLoss(NET, 4), 0.01), 5, 0.1, 0.0, 1, True, PLAIN, True, None, None, 0.2
)
STEPS = Distillation(
    UNROLLED, Parameterisation(Pixels(True)), SoftLabels(0.9), Noise(), Adam(0.05), 4, None, 0.1, 5
)
METHOD = DOSFL(STEPS, 2, 1.0)
QUICK = DOSFL(replace(STEPS, iterations=1), 2, 1.0)


def upload(world, client: int, method: DOSFL = METHOD) -> Upload:
    sent = method.local_update(LocalTask(world, client, 1, 0, {}, RecordDict()))
    return Upload(client, len(world.clients[client][0]), sent)


def server(world) -> ServerTask:
    return ServerTask(world, 1, 0, pack_weights(world.first_network()), None)


def naive(world, uploads: list[Upload]) -> dict[str, torch.Tensor]:
    """The paper's replay, by torch's own descent: all first steps, then all second ones."""
    network = world.first_network()
    for step in range(5):
        for sent in uploads:
            images, steps = sent.records["images"], sent.records["steps"]
            pixels = world.normalisation(torch.from_numpy(images["images"].numpy().copy()))
            labels = torch.from_numpy(steps["labels"].numpy().astype(np.float32))
            rows, first = [], 0
            for count in images["counts"].numpy().tolist():
                rows += [first + step % count] if count else []
                first += count
            size = float(steps["sizes"].numpy()[step])
            optimiser = torch.optim.SGD(network.parameters(), lr=size)
            wanted = labels[rows] / labels[rows].sum(1, keepdim=True)
            F.cross_entropy(network(pixels[rows]), wanted).backward()
            optimiser.step()
            optimiser.zero_grad()
    return network.state_dict()


def test_the_server_takes_the_steps_of_all_clients_in_turn(world):
    (data,) = world.clients[1]
    some = [[data.rows((data.labels != 1).nonzero().flatten())]]  # a client without class 1
    lacking = replace(world, clients=[world.clients[0], some[0], world.clients[2]])
    uploads = [upload(lacking, client, QUICK) for client in range(3)]
    ended = METHOD.aggregate(server(lacking), iter(uploads))
    found = ended.weights.to_torch_state_dict()
    for name, wanted in naive(lacking, uploads).items():
        torch.testing.assert_close(found[name], wanted, rtol=1e-4, atol=1e-6)
    assert ended.memory.data.counts.tolist() == [6, 4, 6]
    assert ended.memory.data.are_distributions


def test_learned_steps_tell_the_images_apart_and_unlearned_ones_do_not(world):
    def loss(iterations: int) -> float:
        quicker = replace(STEPS, iterations=iterations, optimiser=Adam(0.2))
        learned = replace(METHOD, method=quicker)
        lone = replace(world, clients=[world.clients[0]])
        ended = learned.aggregate(server(lone), [upload(lone, 0, learned)])
        return score(ended.model(), lone.clients[0][0])[1]

    assert loss(12) < 0.8 * loss(1)


def test_an_upload_is_images_as_bytes_and_few_numbers_more(world):
    simulation = Simulation({"update": QUICK}, world, Rules(1.0, 1.0))
    report = simulation.play("update", 1)
    assert report.totals["failures"] == 0
    # of each client six images of 64 bytes, three int32 counts, three float16 a label, 5 sizes
    assert report.totals["payload_bytes"] == 3 * (6 * 64 + 3 * 4 + 6 * 3 * 2 + 5 * 4)


def test_the_server_ends_where_the_client_saw_its_steps_end(world):
    # Without noise and with no step left out; uint8 pixels and float16 labels are nearly those.
    terminal = replace(UNROLLED.terminal, sigma=0.0)
    objective = replace(UNROLLED, terminal=terminal, dropped=0.0)
    exact = replace(METHOD, method=replace(STEPS, objective=objective))
    (data,), first = world.clients[0], weights_of(world.first_network())
    seed, counts = subseed(world.seed, "client", 0), torch.tensor([2, 2, 2])
    task = Task(data, counts, world.normalisation, seed, [first])
    small = condense(exact.method, task)
    code = Code(STEPS.parameterisation, {"pixels": small.data.images}, counts, (1, 8, 8))
    others = {"labels": small.data.targets.log(), "rates": torch.tensor(small.rates).log()}
    seen = objective.begin(RealData(task), {}).step(0, Learned(code, STEPS.labels, others))
    ended = exact.aggregate(server(world), [upload(world, 0, exact)])
    assert score(ended.model(), data)[1] == pytest.approx(seen, rel=2e-3)
    assert score(world.first_network(), data)[1] != pytest.approx(seen, rel=1e-2)


def test_a_client_sends_no_step_larger_than_the_server_takes(world):
    large = DOSFL(replace(QUICK.method, rate=3.0), 2, 1.0)
    sent = upload(world, 0, large)
    assert sent.records["steps"]["sizes"].numpy().tolist() == [1.0] * 5
    large.check(sent, server(world))


def test_equal_seeds_give_equal_weights(world):
    def weights(seed: int) -> torch.Tensor:
        simulation = Simulation({"update": QUICK}, replace(world, seed=seed), Rules(1.0, 1.0))
        simulation.play("update", 1)
        return simulation.task.weights.to_torch_state_dict()["classifier.weight"]

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def spoilt(sent: Upload, record: str, name: str, array: np.ndarray) -> Upload:
    arrays = {key: old.numpy() for key, old in sent.records[record].items()} | {name: array}
    changed = ArrayRecord({key: Array(value) for key, value in arrays.items()})
    return replace(sent, records={**sent.records, record: changed})


LABELS, SIZES = np.full((6, 3), 1 / 3, np.float16), np.full(5, 0.1, np.float32)
BAD = {
    "labels nan": ("steps", "labels", LABELS * np.float16("nan"), "labels must be finite float16"),
    "labels float32": ("steps", "labels", LABELS.astype(np.float32), "got float32 of shape"),
    "labels too few": ("steps", "labels", LABELS[:5], r"of shape \(6, 3\), got float16 of shape"),
    "labels no distributions": ("steps", "labels", LABELS * 2, "labels must be distributions"),
    "sizes infinite": ("steps", "sizes", SIZES * np.inf, "sizes must be finite float32"),
    "sizes float64": ("steps", "sizes", SIZES.astype(np.float64), "got float64"),
    "sizes too many": ("steps", "sizes", np.append(SIZES, SIZES), r"shape \(5,\), got .* \(10,\)"),
    "sizes negative": ("steps", "sizes", -SIZES, r"sizes must be in \(0, 1.0\], got -0.1 to"),
    "sizes large": ("steps", "sizes", SIZES * 11, r"sizes must be in \(0, 1.0\], got .* to 1.1"),
    "one array more": ("steps", "more", SIZES, "arrays must be labels, sizes, got"),
    "images float32": ("images", "images", np.zeros((6, 1, 8, 8), np.float32), "uint8 of shape"),
    "images too many": ("images", "counts", np.array([3, 3, 0], np.int32), r"in \[0, 2\], got"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_uploads_are_refused(world, case):
    *where, reason = BAD[case]
    good = upload(world, 0, QUICK)
    QUICK.check(good, server(world))
    with pytest.raises(BadUploadError, match=reason):
        QUICK.check(spoilt(good, *where), server(world))


def test_an_upload_without_steps_is_refused(world):
    sent = upload(world, 0, QUICK)
    with pytest.raises(BadUploadError, match="records must be images, steps, got images"):
        METHOD.check(replace(sent, records={"images": sent.records["images"]}), server(world))


@pytest.mark.parametrize(
    "method",
    [
        Random(),
        replace(STEPS, objective=replace(UNROLLED, ordered=False)),
        replace(STEPS, objective=replace(UNROLLED, momentum=0.9)),
        replace(STEPS, rate=None),
        replace(STEPS, labels=HardLabels()),
    ],
    ids=["real images", "drawn", "momentum", "no sizes", "hard labels"],
)
def test_a_method_that_learns_no_such_steps_is_refused(method):
    with pytest.raises(ValueError, match=r"method must learn ordered steps .*; take method=dd"):
        DOSFL(method, 2, 1.0)


def test_images_that_no_step_takes_are_refused():
    assert UNROLLED.batch is not None
    taken = UNROLLED.inner_steps * UNROLLED.batch
    DOSFL(STEPS, taken, 1.0)
    with pytest.raises(ValueError, match=f"ipc must be <= {taken}, .* got {taken + 1}; raise"):
        DOSFL(STEPS, taken + 1, 1.0)


@pytest.mark.parametrize(("ipc", "largest", "name"), [(0, 1.0, "ipc"), (1, 0, "largest")])
def test_bad_values_are_refused(ipc, largest, name):
    with pytest.raises(ValueError, match=f"{name} must be"):
        DOSFL(STEPS, ipc, largest)
