"""FedLGD's clients train on their own sets, and near anchors that match their mean gradient."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.condenser import Condenser, condense
from distill.coresets import Noise, Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.labels import HardLabels
from distill.network_sources import Fresh
from distill.networks import MLP
from distill.objectives.distribution import DistributionMatching
from distill.objectives.given_step import GivenStep
from distill.objectives.gradient import GradientMatching
from distill.objectives.matching import Matching
from distill.optimisers import SGD, Adam
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from distill.pullback import gradient, weights_of
from distill.training import train
from fedcl.federated.base import LocalTask, ServerTask, Upload
from fedcl.federated.channel import Channel
from fedcl.federated.fedlgd import OWN, FedLGD, anchored_contrast
from fedcl.federated.rehearsal import Round, rehearse
from fedcl.federated.simulation import Simulation
from fedcl.federated.small_sets import without_images
from fedcl.federated.strategy import Rules
from fedcl.wire import BadUploadError, pack_images, pack_weights

NET = MLP(4, 1)
PIXELS = Parameterisation(Pixels(True))
MATCHING = Matching(DistributionMatching(), Fresh(NET, 1), Augmentation([], mirror=False), 9, None)
DM = Distillation(MATCHING, PIXELS, HardLabels(), Random(), SGD(0.1, 0.0), 2)
STEP = GivenStep(NET, GradientMatching("squared", "all"))
LAYERS = ["embedding.1.weight", "classifier.weight"]
ANCHORS = Distillation(STEP, PIXELS, HardLabels(), Noise(), Adam(0.05), 3)


@pytest.fixture
def method(plain) -> FedLGD:
    return FedLGD(6, plain(), DM, ANCHORS, 2, 3, 2, 1.0, 0.5)


def simulated(method, world, rounds, participation=1.0):
    rules = Rules(participation, 1.0)
    simulation, weights, reports = Simulation({"update": method}, world, rules), [], []
    for number in range(1, rounds + 1):
        reports.append(simulation.play("update", number))
        weights.append(flat(simulation))
    return simulation, weights, reports


def flat(simulation: Simulation) -> torch.Tensor:
    weights = simulation.task.weights.to_torch_state_dict()
    return torch.cat([w.flatten() for w in weights.values()])


def local(method, world, number: int, state: RecordDict, **more: ArrayRecord):
    sent = {"arrays": pack_weights(world.first_network()), **more}
    return method.local_update(LocalTask(world, 0, number, 0, sent, state))["arrays"]


def own_images(state: RecordDict) -> LabelledImages:
    own = state[OWN].to_torch_state_dict()
    return LabelledImages(own["images"], own["labels"], 3)


def test_the_contrast_agrees_with_arithmetic():
    # tau = 1/2. The first image, of class 0, at cosines 1, 0 to anchors of classes 0, 1:
    # -log(e^2 / (e^2 + 1)); the second, of class 1, at 0, 1, the same; the third has no anchor.
    z = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    loss = anchored_contrast(
        (z, torch.tensor([0, 1, 2])), (torch.eye(2), torch.tensor([0, 1])), 0.5
    )
    assert loss.item() == pytest.approx(-math.log(math.e**2 / (math.e**2 + 1)))


def test_the_contrast_agrees_with_the_naive_loop(rng):
    z, a = (F.normalize(torch.randn(n, 6, generator=rng)) for n in (5, 7))
    classes, theirs = torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0, 0, 1, 1, 1, 3, 4])
    total, counted = 0.0, 0
    for image, label in zip(z, classes, strict=True):
        alike = [p for p, other in zip(a, theirs, strict=True) if other == label]
        if not alike:
            continue
        counted += 1
        below = sum(math.exp(image @ other / 0.3) for other in a)
        total -= sum(math.log(math.exp(image @ p / 0.3) / below) for p in alike) / len(alike)
    loss = anchored_contrast((z, classes), (a, theirs), 0.3)
    assert loss.item() == pytest.approx(total / counted, rel=1e-5)


def test_without_an_alike_anchor_there_is_no_contrast():
    z = torch.eye(2)
    assert anchored_contrast((z, torch.tensor([0, 1])), (z, torch.tensor([2, 3])), 0.5) == 0


def test_a_distilling_round_sends_one_step_on_the_own_set(method, world):
    state, network = RecordDict(), world.first_network()
    sent = local(method, world, 1, state).to_torch_state_dict()
    own = own_images(state)
    assert own.counts.tolist() == [2, 2, 2]
    F.cross_entropy(network(own.images), own.labels).backward()
    for name, w in network.named_parameters():
        torch.testing.assert_close(sent[name], w.detach() - w.grad, rtol=1e-4, atol=1e-6)


def test_weights_move_in_training_rounds_alone(method, world):
    # every = 3 and two distillings: rounds 1 and 4 distil, 2, 3, 5 and 6 train.
    simulation, weights, _ = simulated(method, world, 7)
    first = torch.cat([w.flatten() for w in world.first_network().state_dict().values()])
    moved = [not a.equal(b) for a, b in zip([first, *weights], weights, strict=False)]
    assert moved == [False, True, True, False, True, True, True]
    assert simulation.task.memory.data.counts.tolist() == [2, 2, 2]


def test_anchors_match_the_mean_gradient_of_all(method, world):
    network = world.first_network()
    simulation, _, _ = simulated(replace(method, anchors=replace(ANCHORS, iterations=80)), world, 1)
    wanted: dict[str, torch.Tensor] = {}
    for client in range(3):
        state = RecordDict()
        sent = {"arrays": pack_weights(network)}
        method.local_update(LocalTask(world, client, 1, 0, sent, state))
        own, share = own_images(state), len(world.clients[client][0]) / 27
        slopes = gradient(network, weights_of(network), (own.images, own.labels), LAYERS)
        wanted = {name: wanted.get(name, 0) + share * g for name, g in slopes.items()}

    def distance(small: LabelledImages) -> float:
        ours = gradient(network, weights_of(network), (small.images, small.labels), LAYERS)
        return sum((ours[name] - wanted[name]).square().sum().item() for name in LAYERS)

    anchors = simulation.task.memory.data
    noise = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert distance(anchors) < 0.3 * distance(replace(anchors, images=noise))


def test_anchors_are_sent_once_when_they_are_new(method, world):
    _, _, reports = simulated(method, world, 6)
    down = [report.totals["bytes_down"] for report in reports]
    # six images of 64 bytes to each of three clients in rounds 2 and 5, and headers
    assert down[0] == down[2] == down[3] == down[5]
    assert down[1] == down[4] > down[0] + 3 * 6 * 64


def test_a_training_step_follows_both_losses(method, world, plain):
    # One batch of the six own images; anchors of each batch are drawn after its order.
    whole = replace(method, local=plain(1, batch=6), weight=2.0)
    state, network = RecordDict(), world.first_network()
    local(whole, world, 1, state)
    own, anchors = own_images(state), condense(Noise(), without_images(world, 2, 7))
    sent = local(whole, world, 2, state, images=pack_images(anchors)).to_torch_state_dict()
    task = LocalTask(world, 0, 2, 0, {}, RecordDict())
    order, kept = torch.randperm(6, generator=(rng := task.rng)), anchors.stored("uint8").data
    drawn = kept.rows(torch.randint(6, (6,), generator=rng))
    images, labels = torch.cat([own.images[order], drawn.images]), own.labels[order]
    z = F.normalize(network.embed(images))
    contrast = anchored_contrast((z[:6], labels), (z[6:], drawn.labels), 0.5)
    loss = F.cross_entropy(network(images), torch.cat([labels, drawn.labels]))
    (loss + 2 * contrast).backward()
    for name, w in network.named_parameters():
        torch.testing.assert_close(sent[name], w.detach() - 0.1 * w.grad, rtol=1e-4, atol=1e-6)


def test_a_set_is_mended_from_where_it_was(method, world):
    still = replace(DM, optimiser=SGD(1e-9, 0.0))
    slow, state = replace(method, method=still), RecordDict()
    local(slow, world, 1, state)
    first = own_images(state).images
    local(slow, world, 4, state)
    torch.testing.assert_close(own_images(state).images, first)
    local(replace(method, method=Random()), world, 4, state)  # nothing to go on from: made anew
    assert not own_images(state).images.allclose(first)


def test_anchors_are_mended_from_where_they_were(method, world):
    still = replace(method, anchors=replace(ANCHORS, optimiser=SGD(1e-9, 0.0)))
    anchors = [simulated(still, world, rounds)[0].task.memory for rounds in (1, 4)]
    torch.testing.assert_close(anchors[0].data.images, anchors[1].data.images)
    assert [small.origin for small in anchors] == ["noise", "noise"]


def test_a_client_that_missed_the_distilling_makes_its_set_and_trains_without_anchors(
    method, world
):
    state, network = RecordDict(), world.first_network()
    sent = local(method, world, 2, state).to_torch_state_dict()
    train(network, own_images(state), method.local, LocalTask(world, 0, 2, 0, {}, state).rng)
    assert all(sent[name].equal(w) for name, w in network.state_dict().items())


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_resumed_run_ends_as_an_unbroken_one(method, world, cut):
    unbroken, _, _ = simulated(method, world, 6, 0.67)  # two of three clients a round
    first, _, _ = simulated(method, world, cut, 0.67)
    second = Simulation({"update": method}, world, Rules(0.67, 1.0))
    second.restore(first.state())
    for number in range(cut + 1, 7):
        second.play("update", number)
    assert flat(unbroken).equal(flat(second))


def test_clients_keep_as_much_in_a_rehearsal_as_in_the_run(method, world):
    def kept(simulation: Simulation) -> list[int]:
        states = simulation.grid.states.values()
        return [sum(map(len, blobs.values())) for _, blobs in states]

    run, _, _ = simulated(method, world, 2)
    schedule = [Round(number, 0, "update") for number in (1, 2)]
    told = rehearse({"update": method}, world, Rules(1.0, 1.0), Channel(), schedule)
    assert kept(told.simulation) == kept(run)
    assert min(kept(run)) > 2 * 64 * 4  # two images at least


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w * np.float32("nan"), "classifier.weight must be finite"),
        (lambda w: w[:1], r"classifier.weight must be float32 of shape \(3, 4\)"),
        (lambda w: w.astype(np.float64), "got float64"),
    ],
)
def test_bad_uploads_are_refused(method, world, number, change, reason):
    arrays = {k: a.numpy() for k, a in local(method, world, number, RecordDict()).items()}
    arrays["classifier.weight"] = change(arrays["classifier.weight"])
    record = ArrayRecord({name: Array(array) for name, array in arrays.items()})
    server = ServerTask(world, number, 0, pack_weights(world.first_network()), None)
    with pytest.raises(BadUploadError, match=reason):
        method.check(Upload(0, 12, {"arrays": record}), server)


@dataclass(frozen=True)
class Decoded(Condenser):
    """A method whose images are decoded."""

    makes_pixels = False

    def steps(self, task, state=None):
        raise AssertionError("it is refused before")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ipc": 0}, "ipc must be >= 1"),
        ({"every": 1}, "federated.every must be >= 2, got 1"),
        ({"distillings": 0}, "federated.distillings must be >= 1, got 0"),
        ({"weight": -1}, "federated.weight must be >= 0, got -1"),
        ({"temperature": 0}, "federated.temperature must be > 0, got 0"),
        ({"method": Decoded()}, "method must keep its images as pixels"),
        ({"anchors": Decoded()}, "method must keep its images as pixels"),
    ],
)
def test_bad_values_are_refused(method, changes, reason):
    with pytest.raises(ValueError, match=reason):
        replace(method, **changes)


def test_mixed_images_are_refused(method):
    with pytest.raises(ValueError, match=r"training.cutmix must be 0 for fedlgd, .* got 0.5"):
        replace(method, local=replace(method.local, cutmix=0.5))
