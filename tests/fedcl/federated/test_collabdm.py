"""CollabDM's server knows the means of all images, however they lie among clients."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, RecordDict

from distill.coresets import Noise, Random
from distill.engine import Distillation
from distill.images import LabelledImages
from distill.labels import HardLabels
from distill.networks import MLP
from distill.objectives.given_means import GivenMeans, SharedNetworks, means_of
from distill.optimisers import SGD
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.pixels import Pixels
from fedcl.federated.base import LocalTask, ServerTask, Upload
from fedcl.federated.collabdm import CollabDM
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.wire import BadUploadError, pack_weights

NET = MLP(4, 1)


@pytest.fixture
def method(plain) -> CollabDM:
    unused = GivenMeans(SharedNetworks(NET, 1, 0), torch.zeros(1, 1, 4))
    pixels = Parameterisation(Pixels(False))
    distilled = Distillation(unused, pixels, HardLabels(), Noise(), SGD(1.0, 0.5), 20)
    return CollabDM(distilled, NET, 3, 2, plain(20))


def upload(method, world, client):
    sent = method.local_update(LocalTask(world, client, 1, 0, {}, RecordDict()))
    return Upload(client, len(world.clients[client][0]), sent)


def server(world):
    return ServerTask(world, 1, 0, pack_weights(world.first_network()), None)


def test_sums_are_those_of_all_images_together(method, world):
    sums, counts = method._summed(iter(upload(method, world, k) for k in range(3)), world)
    pooled = LabelledImages.union([data for (data,) in world.clients])
    means = means_of(SharedNetworks(NET, 3, world.seed), pooled.images, pooled.labels, 3)
    assert counts.tolist() == pooled.counts.tolist()
    # float16 keeps 11 bits
    torch.testing.assert_close((sums / counts.unsqueeze(1)).float(), means, atol=1e-3, rtol=2e-3)


def test_the_set_is_the_same_however_images_lie_among_clients(method, world):
    pooled = LabelledImages.union([data for (data,) in world.clients])
    by_class = [[pooled.rows((pooled.labels == label).nonzero().flatten())] for label in range(3)]

    def images(clients):
        simulation = Simulation(
            {"update": method}, replace(world, clients=clients), Rules(1.0, 1.0)
        )
        simulation.play("update", 1)
        return simulation.task.memory.data.images

    torch.testing.assert_close(images(by_class), images([[pooled]]), atol=0.02, rtol=0.02)


def test_the_server_starts_from_noise_and_fits_the_means(method, world):
    simulation = Simulation({"update": method}, world, Rules(1.0, 1.0))
    simulation.play("update", 1)
    memory = simulation.task.memory
    assert memory.origin == "noise"
    assert memory.data.counts.tolist() == [2, 2, 2]
    pooled = LabelledImages.union([data for (data,) in world.clients])
    shared = SharedNetworks(NET, 3, world.seed)
    wanted = means_of(shared, pooled.images, pooled.labels, 3)
    noise = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    gaps = [
        (means_of(shared, images, memory.data.labels, 3) - wanted).square().sum()
        for images in (memory.data.images, noise)
    ]
    assert gaps[0] < 0.3 * gaps[1]


def test_a_class_that_no_client_has_gets_no_image(method, world):
    clients = [[data.rows((data.labels != 1).nonzero().flatten())] for (data,) in world.clients]
    simulation = Simulation({"update": method}, replace(world, clients=clients), Rules(1.0, 1.0))
    simulation.play("update", 1)
    assert simulation.task.memory.data.counts.tolist() == [2, 0, 2]


def test_an_upload_holds_the_means_of_own_classes_alone(method, world):
    (data,) = world.clients[0]
    lone = replace(world, clients=[[data.rows((data.labels == 2).nonzero().flatten())]])
    record = upload(method, lone, 0).records["means"]
    assert record["means"].numpy().shape == (3, 1, 4)
    assert record["counts"].numpy().tolist() == [0, 0, 4]


def with_array(record, name, array):
    arrays = {key: old.numpy() for key, old in record.items()} | {name: array}
    return ArrayRecord({key: Array(value) for key, value in arrays.items()})


BAD = {
    "nan": ("means", np.full((3, 3, 4), np.nan, np.float16), "means must be finite float16"),
    "float32": ("means", np.zeros((3, 3, 4), np.float32), "got float32 of shape"),
    "fewer networks": ("means", np.zeros((2, 3, 4), np.float16), r"shape \(3, 3, 4\)"),
    "other counts": ("counts", np.array([12, 0, 0], np.int32), r"of shape \(3, 1, 4\)"),
    "more images": ("counts", np.array([9, 4, 4], np.int32), "12 in all, got int32"),
    "negative": ("counts", np.array([-4, 8, 8], np.int32), ">= 0 and 12 in all"),
    "int64": ("counts", np.array([4, 4, 4]), "got int64"),
    "one array more": ("more", np.zeros(1), "arrays must be means, counts, got"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_uploads_are_refused(method, world, case):
    name, array, reason = BAD[case]
    good = upload(method, world, 0)
    method.check(good, server(world))
    record = with_array(good.records["means"], name, array)
    with pytest.raises(BadUploadError, match=reason):
        method.check(replace(good, records={"means": record}), server(world))


def test_a_method_that_chooses_real_images_is_refused(plain):
    with pytest.raises(ValueError, match="method must be a distilling one for collabdm"):
        CollabDM(Random(), NET, 3, 2, plain())
