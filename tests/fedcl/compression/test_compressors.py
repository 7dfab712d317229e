"""Each compressor gives back what its paper says, in the bytes that it says."""

import math

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord

from fedcl.compression.half import Half
from fedcl.compression.quantised import Quantised
from fedcl.compression.sign import Sign
from fedcl.compression.top_k import TopK
from fedcl.wire import BadUploadError

ALL = {
    "f16": Half(),
    "int8": Quantised(),
    "sign": Sign(),
    "top": TopK(0.03),
    "some": TopK(0.15),
    "many": TopK(0.5),
}


def payload(record: ArrayRecord) -> int:
    return sum(array.numpy().nbytes for array in record.values())


def round_trip(compressor, vector, sizes, rng):
    return compressor.decode(compressor.encode(vector, sizes, rng), sizes)


# Of 100 numbers in tensors of 60 and 40: f16 200; int8 100 + 2 scales; sign 13 + 2 scales;
# three 3 * (4 + 4); fifteen 15 * 4 and 13 bytes of bits, where places would take 60; a half
# 50 * 4 and 13, where they would take 200.
BYTES = {"f16": 200, "int8": 108, "sign": 21, "top": 24, "some": 73, "many": 213}


@pytest.mark.parametrize("name", ALL)
def test_bytes_are_those_of_packed_numbers(name, rng):
    assert payload(ALL[name].encode(torch.randn(100, generator=rng), [60, 40], rng)) == BYTES[name]


@pytest.mark.parametrize("name", ALL)
def test_zero_comes_back_as_zero_of_the_same_length(name, rng):
    vector = torch.zeros(100)
    assert round_trip(ALL[name], vector, [60, 40], rng).equal(vector)


def test_half_rounds_to_half_precision_and_cuts_at_its_end(rng):
    vector = torch.tensor([1 / 3, -2.0, 1e6, -1e6])
    back = round_trip(Half(), vector, [4], rng)
    assert back.tolist() == [float(np.float16(1 / 3)), -2.0, 65504.0, -65504.0]


def test_quantised_lands_on_a_neighbour_of_the_grid_and_is_unbiased(rng):
    # scales 1.27 and 12.7: steps 0.01 and 0.1
    vector = torch.tensor([1.27, 0.0034, -0.0267, -12.7, 0.25, 4.98])
    draws = torch.stack([round_trip(Quantised(), vector, [3, 3], rng) for _ in range(4000)])
    steps = torch.tensor([0.01] * 3 + [0.1] * 3)
    assert ((draws - vector).abs() < steps * (1 + 1e-4)).all()
    assert (draws / steps - (draws / steps).round()).abs().max() < 1e-3
    # a Bernoulli mean of 4,000 draws has a deviation of at most step / (2 sqrt(4000))
    assert ((draws.mean(0) - vector).abs() < 5 * steps / (2 * math.sqrt(4000))).all()


def test_sign_keeps_signs_and_the_mean_magnitude_of_each_tensor(rng):
    # tensors (1, -3) and (0.5): means 2 and 0.5
    back = round_trip(Sign(), torch.tensor([1.0, -3.0, 0.5]), [2, 1], rng)
    assert back.tolist() == [2.0, -2.0, 0.5]


@pytest.mark.parametrize("share", [0.03, 0.5])
def test_top_k_keeps_the_largest_and_nothing_else(share, rng):
    vector = torch.randn(100, generator=rng)
    back = round_trip(TopK(share), vector, [60, 40], rng)
    largest = vector.abs() >= vector.abs().sort(descending=True).values[round(100 * share) - 1]
    assert back.equal(torch.where(largest, vector, 0.0))


def test_the_whole_vector_at_a_share_of_one(rng):
    vector = torch.randn(9, generator=rng)
    assert round_trip(TopK(1.0), vector, [9], rng).equal(vector)


def changed(record: ArrayRecord, name: str, array: np.ndarray) -> ArrayRecord:
    return ArrayRecord(
        {**{key: Array(old.numpy()) for key, old in record.items()}, name: Array(array)}
    )


u32, f32 = np.uint32, np.float32
BAD = {
    "f16 longer": ("f16", "values", np.zeros(101, np.float16), r"float16 of shape \(100,\)"),
    "f16 of float32": ("f16", "values", np.zeros(100, f32), "got float32"),
    "f16 infinite": ("f16", "values", np.full(100, np.inf, np.float16), "values must be finite"),
    "int8 scale": ("int8", "scales", np.array([1, np.nan], f32), "scales must be finite"),
    "int8 scales": ("int8", "scales", np.zeros(3, f32), r"scales must be float32 of shape \(2,\)"),
    "bits": ("sign", "bits", np.zeros(12, np.uint8), r"bits must be uint8 of shape \(13,\)"),
    "same place": ("top", "places", np.array([1, 1, 2], u32), "3 different ones"),
    "far place": ("top", "places", np.array([0, 1, 100], u32), "below 100, .* to 100"),
    "no order": ("top", "places", np.array([2, 1, 0], u32), "ascending"),
    "too few bits": ("many", "places", np.zeros(13, np.uint8), "50 different ones .* got 0"),
    "another array": ("top", "extra", np.zeros(1, f32), "arrays must be values, places, got"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_was_not_encoded_so_is_refused(case, rng):
    name, key, array, reason = BAD[case]
    record = ALL[name].encode(torch.randn(100, generator=rng), [60, 40], rng)
    with pytest.raises(BadUploadError, match=reason):
        ALL[name].decode(changed(record, key, array), [60, 40])


@pytest.mark.parametrize("share", [0, 1.5])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="compression share must be"):
        TopK(share)
