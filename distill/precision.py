"""Products in bfloat16: half the bits, several times as fast where the processor has them.

Convolutions and matrix products take operands of 8 bits' mantissa and add up in float32;
weights, gradients of weights and optimisers stay as they are. It pays on processors with AMX
or on GPUs; without instructions of its own bfloat16 is many times slower than float32.
"""

import torch

PRECISIONS = ("float32", "bfloat16")


def products(precision: str, device: torch.device) -> torch.autocast:
    """Returns the context in which products are taken in a precision, one of ``PRECISIONS``.

    Weights are rounded anew in every product, so that they may be trained within the context.
    """
    wanted = precision == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted, cache_enabled=False)
