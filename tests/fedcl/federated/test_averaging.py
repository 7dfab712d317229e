"""The server's mean is weighted by images."""

import numpy as np
from flwr.app import Array, ArrayRecord

from fedcl.federated.averaging import weighted_mean
from fedcl.federated.base import Upload


def upload(client: int, examples: int, values: list[float]) -> Upload:
    arrays = ArrayRecord({"w": Array(np.array(values, np.float32))})
    return Upload(client, examples, arrays)


def test_mean_is_weighted_by_images():
    # (1 * (0, 4) + 3 * (8, 8)) / 4 = (6, 7)
    mean = weighted_mean([upload(0, 1, [0, 4]), upload(1, 3, [8, 8])])
    assert mean["w"].numpy().tolist() == [6.0, 7.0]


def test_mean_keeps_the_type_that_came():
    assert weighted_mean([upload(0, 1, [1, 2])])["w"].numpy().dtype == np.float32
