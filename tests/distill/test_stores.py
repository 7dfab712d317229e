"""Numbers come back from a store within its precision, at its number of bytes."""

import pytest
import torch

from distill.stores import RANGE_BYTES, STORES, itemsize, pack, unpack


@pytest.mark.parametrize(("store", "size"), [("uint8", 1), ("float16", 2), ("float32", 4)])
def test_a_number_takes_the_bytes_of_its_type(store, size):
    assert itemsize(store) == size
    packed = pack(torch.tensor([0.5, -1.5]), store)["numbers"]
    assert packed.element_size() == size
    assert packed.dtype == getattr(torch, store)


def test_stores_are_named_from_small_to_large():
    assert STORES == ("uint8", "float16", "float32")


def test_uint8_counts_255_steps_from_the_least_number():
    # from -1 to 50: steps of 51 / 255 = .2; (0 + 1) / .2 = 5, (1.09 + 1) / .2 = 10.45
    packed = pack(torch.tensor([-1.0, 0.0, 1.09, 50.0]), "uint8")
    assert packed["numbers"].tolist() == [0, 5, 10, 255]
    assert packed["range"].tolist() == pytest.approx([-1.0, 0.2], rel=1e-6)
    assert unpack(packed).tolist() == pytest.approx([-1.0, 0.0, 1.0, 50.0], abs=1e-5)


def test_uint8_comes_back_within_half_a_step(rng):
    numbers = torch.randn(3, 50, generator=rng) * 7 + 3
    gap = (unpack(pack(numbers, "uint8")) - numbers).abs()
    step = (numbers.max() - numbers.min()) / 255
    assert gap.shape == (3, 50)
    assert gap.max() <= step * 0.501
    assert gap.max() > step * 0.45


@pytest.mark.parametrize("value", [0.0, -3.25, 1e30])
def test_equal_numbers_come_back_exactly(value):
    numbers = torch.full((2, 3), value)
    for store in ("uint8", "float32"):
        assert torch.equal(unpack(pack(numbers, store)), numbers)
    # a step of 0 would be divided by, and what no number is as a byte differs by machine
    assert pack(numbers, "uint8")["range"][1] > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_the_range_takes_eight_bytes_whatever_the_numbers(dtype):
    kept = pack(torch.tensor([0.0, 1.0], dtype=dtype), "uint8")["range"]
    assert kept.numel() * kept.element_size() == RANGE_BYTES == 8


def test_float16_rounds_to_eleven_bits():
    # beyond 2,048 halves know even numbers only; ties go to the even one
    packed = pack(torch.tensor([2049.0, 2051.0, 0.5]), "float16")
    assert unpack(packed).tolist() == [2048.0, 2052.0, 0.5]


def test_float32_comes_back_exactly(rng):
    numbers = torch.randn(5, 4, generator=rng)
    assert torch.equal(unpack(pack(numbers, "float32")), numbers)


@pytest.mark.parametrize("store", STORES)
def test_what_comes_back_is_float32(store):
    assert unpack(pack(torch.tensor([0.0, 1.0], dtype=torch.float64), store)).dtype == torch.float32


@pytest.mark.parametrize("store", STORES)
def test_packing_leaves_the_numbers_alone(rng, store):
    numbers = torch.randn(5, generator=rng)
    before = numbers.clone()
    pack(numbers, store)
    assert torch.equal(numbers, before)


@pytest.mark.parametrize("act", [itemsize, lambda store: pack(torch.zeros(2), store)])
def test_an_unknown_store_is_refused(act):
    message = r"^unknown store 'jpeg'; known: float16, float32, uint8$"
    with pytest.raises(ValueError, match=message):
        act("jpeg")
