"""Distributions cross the wire in half precision, and arrive as distributions or not at all."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from fedcl.wire import (
    BadUploadError,
    check_array,
    check_distributions,
    pack_distributions,
    unpack_distributions,
)


def record(array: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"labels": Array(array)})


def test_distributions_cross_in_two_bytes_a_number_and_sum_to_one(rng):
    rows = torch.randn(5, 100, generator=rng).mul(4).softmax(1)
    packed = pack_distributions(rows)
    assert packed.numpy().nbytes == 5 * 100 * 2
    check_distributions(ArrayRecord({"labels": packed}), "labels", 5, 100)
    came = unpack_distributions(packed)
    torch.testing.assert_close(came.sum(1), torch.ones(5))
    torch.testing.assert_close(came, rows, rtol=2e-3, atol=1e-6)  # float16 keeps 11 bits


BAD = {
    "infinity": (np.array([[np.inf, 0.0]], np.float16), "labels must be finite float16 of shape"),
    "nan": (np.array([[np.nan, 1.0]], np.float16), "labels must be finite"),
    "float32": (np.array([[0.5, 0.5]], np.float32), r"got float32 of shape \(1, 2\)"),
    "one row more": (np.full((2, 2), 0.5, np.float16), r"got float16 of shape \(2, 2\)"),
    "negative": (np.array([[-0.5, 1.5]], np.float16), "distributions, got numbers from -0.5 on"),
    "sums": (np.array([[0.5, 0.25]], np.float16), "sums from 0.75 to 0.75"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_distribution_is_refused(case):
    array, reason = BAD[case]
    with pytest.raises(BadUploadError, match=reason):
        check_distributions(record(array), "labels", 1, 2)


def test_bytes_that_are_no_array_are_refused():
    spoilt = ArrayRecord({"labels": Array(dtype="float16", shape=(1,), stype="x", data=b"no")})
    with pytest.raises(BadUploadError, match="labels must be a numeric array"):
        check_array(spoilt, "labels", "float16", (1,))
