"""Named random streams: what a stream is for decides its numbers, not who drew before.

A stream's state is the first eight bytes of SHA-256 over the seed and the names, so
streams of different names are independent, equal names give equal numbers on every
machine, and a run that resumes needs no stored generator state.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def subseed(seed: int, *names: str | int) -> int:
    """Returns the seed of the stream that ``names`` describe, in [0, 2**63).

    >>> subseed(0, "client", 3) == subseed(0, "client", 3) != subseed(0, "client", 4)
    True
    """
    text = "/".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive(seed: int, *names: str | int) -> torch.Generator:
    """Returns a CPU generator at the start of the stream that ``names`` describe.

    >>> first, again = derive(0, "start"), derive(0, "start")
    >>> bool((torch.rand(3, generator=first) == torch.rand(3, generator=again)).all())
    True
    """
    return torch.Generator().manual_seed(subseed(seed, *names))


@contextmanager
def global_stream(seed: int) -> Iterator[None]:
    """Seeds torch's global generator for a block, and puts its state back afterwards.

    For code that draws from the global generator and takes no other: torch's initialisers,
    Avalanche's data loaders.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
