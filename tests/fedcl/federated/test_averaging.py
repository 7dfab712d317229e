"""The server's mean is weighted by images."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from fedcl.federated.averaging import RunningMean, weighted_mean
from fedcl.federated.base import Upload


def upload(client: int, examples: int, values: list[float]) -> Upload:
    arrays = ArrayRecord({"w": Array(np.array(values, np.float32))})
    return Upload(client, examples, {"arrays": arrays})


def test_mean_is_weighted_by_images():
    # (1 * (0, 4) + 3 * (8, 8)) / 4 = (6, 7)
    mean = weighted_mean([upload(0, 1, [0, 4]), upload(1, 3, [8, 8])])
    assert mean["w"].numpy().tolist() == [6.0, 7.0]


def test_mean_is_float32_and_goes_through_the_uploads_once():
    mean = weighted_mean(iter([upload(0, 1, [1, 2]), upload(1, 1, [3, 2])]))
    assert mean["w"].numpy().dtype == np.float32
    assert mean["w"].numpy().tolist() == [2.0, 2.0]


def test_a_running_mean_sums_in_float64():
    # 2**24 + 1 is no float32: summed in float32 the one is lost.
    mean = RunningMean()
    mean.add({"w": np.array([2.0**24], np.float32)}, 1)
    mean.add({"w": np.array([1.0], np.float32)}, 1)
    assert mean.weight == 2
    assert mean.mean()["w"] == pytest.approx((2.0**24 + 1) / 2, abs=0)


def test_what_is_added_stays_as_it_was():
    arrays, mean = {"w": np.array([1.0, 2.0])}, RunningMean()
    mean.add(arrays, 1)
    mean.add({"w": np.array([5.0, 5.0])}, 1)
    assert arrays["w"].tolist() == [1.0, 2.0]
