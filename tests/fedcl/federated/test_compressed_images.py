"""Small sets sent as compressed images come back as the store reads them, or are refused."""

from contextlib import suppress

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from distill.coresets import Random
from distill.images import Normalisation
from distill.synthetic import SyntheticSet
from fedcl.compression.images import CompressedImages
from fedcl.federated.channel import Channel
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.one_shot import OneShot
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import Rules
from fedcl.stores.base import Frame
from fedcl.stores.jpeg import Jpeg
from fedcl.wire import BadUploadError, pack_images

STORE = Jpeg(50)
MAP = Normalisation([0.5], [0.25])
FRAME = Frame((1, 8, 8), MAP, torch.zeros(0))
CODEC = CompressedImages(STORE, (1, 8, 8), MAP)


def pixels(record: ArrayRecord) -> torch.Tensor:
    return torch.from_numpy(record["images"].numpy().copy())


def as_read(images: torch.Tensor) -> torch.Tensor:
    return MAP.quantise(STORE.decode(STORE.encode(images, FRAME), FRAME))


def test_a_set_comes_back_as_the_store_reads_it(world):
    data = world.clients[0][0]
    ordered = data.rows(data.labels.argsort(stable=True))
    record = pack_images(SyntheticSet(ordered, MAP, "real"))
    sent = CODEC.encode(record)
    assert {name: array.numpy().nbytes for name, array in sent.items()} == {
        "rows": 12 * 50,  # twelve images, of 50 bytes instead of 64
        "counts": 3 * 4,
    }
    came = CODEC.decode(sent)
    assert pixels(came).equal(as_read(ordered.images))
    assert not pixels(came).equal(pixels(record))
    assert came["counts"].numpy().tolist() == [4, 4, 4]


def test_a_server_has_what_came_and_fewer_bytes_were_sent(world, plain):
    totals, memories = [], []
    for channel in (Channel(), Channel(images=STORE)):
        method = OneShot(Random(), 2, plain())
        simulation = Simulation({"update": method}, world, Rules(1.0, 1.0), channel)
        totals.append(simulation.play("update", 1).totals["payload_bytes"])
        memories.append(simulation.task.memory.data.images)
    assert totals[0] - totals[1] == len(memories[0]) * (64 - 50)
    assert MAP.quantise(memories[1]).equal(as_read(memories[0]))


def rows(array: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"rows": Array(array), "counts": Array(np.array([1, 0, 0], np.int32))})


BAD = {
    "pixels": (
        ArrayRecord({"images": Array(np.zeros((1, 1, 8, 8), np.uint8))}),
        "arrays must be rows and no images, got images",
    ),
    "rows and pixels, not compressed": (
        ArrayRecord(
            {
                **CODEC.encode(ArrayRecord({"images": Array(np.zeros((1, 1, 8, 8), np.uint8))})),
                "images": Array(np.zeros((1, 1, 8, 8), np.uint8)),
            }
        ),
        "arrays must be rows and no images, got rows, images",
    ),
    "floats": (rows(np.zeros((1, 50), np.float32)), r"rows must be uint8 of shape \(images, 50\)"),
    "other sizes": (rows(np.zeros((1, 51), np.uint8)), r"got uint8 of shape \(1, 51\)"),
    "no row": (rows(np.zeros((0, 50), np.uint8)), "at least one image"),
    "a quality of nothing": (rows(np.zeros((1, 50), np.uint8)), "rows must be compressed images"),
    "no data behind a quality": (
        rows(np.array([[50] + [0xFF, 0xFE] + [0x11] * 47], np.uint8)),  # a comment that never ends
        "rows must be compressed images",
    ),
    "a quality too high": (rows(np.full((1, 50), 255, np.uint8)), "rows must be compressed images"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_such_set_is_refused(case):
    record, reason = BAD[case]
    with pytest.raises(BadUploadError, match=reason):
        CODEC.decode(record)


@pytest.mark.parametrize("quality", [1, 50, 100])
def test_noise_in_a_row_is_an_image_of_the_task_or_refused(quality):
    rng = np.random.default_rng(0)
    row = rng.integers(0, 256, (1, 50), np.uint8)
    row[0, 0] = quality
    with suppress(BadUploadError):
        assert pixels(CODEC.decode(rows(row))).shape == (1, 1, 8, 8)


def test_a_method_that_uploads_no_images_refuses_it(plain):
    with pytest.raises(ValueError, match=r"compression.images must be null"):
        Channel(images=STORE).check(FedAvg(1, plain()).vectors, weights_up=True, small_sets=False)
    Channel(images=STORE).check((), weights_up=True, small_sets=True)
