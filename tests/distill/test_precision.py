"""Products are taken in bfloat16 where that is asked for, and nothing else is."""

import torch

from distill.precision import products

CPU = torch.device("cpu")


def test_operands_are_rounded_to_bfloat16():
    # 1 + 2^-9 has two bits more than bfloat16 keeps, so it is 1 there.
    fine = torch.full((1, 1), 1 + 2**-9)
    with products("bfloat16", CPU):
        assert (fine @ fine).item() == 1.0
    with products("float32", CPU):
        assert (fine @ fine).item() == (1 + 2**-9) ** 2


def test_sums_are_not_products():
    fine = torch.full((1, 1), 1 + 2**-9)
    with products("bfloat16", CPU):
        assert (fine + fine).item() == 2 + 2**-8


def test_weights_that_change_within_the_context_are_seen():
    # d(wx)/dw = x = 1, so w goes from 2 to 1, and the second product is 1.
    weight = torch.full((1, 1), 2.0, requires_grad=True)
    with products("bfloat16", CPU):
        (weight @ torch.ones(1, 1)).sum().backward()
        with torch.no_grad():
            weight -= weight.grad
        assert (weight @ torch.ones(1, 1)).item() == 1.0
    assert weight.dtype == torch.float32
