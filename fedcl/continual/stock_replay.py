r"""Stock replay: what Avalanche's own loader does, for comparisons with results that it gave.

The memory's m images are gone through in a random order, b at a time, b being the stream's batch;
the last batch of a round brings what is left, :math:`m \bmod b`, and then a new round begins.
With 16 of the stream and 20 in the memory, steps see 16 and 4 of it by turns: the ratio of stream
to memory depends on the memory's size, and moves accuracy more than methods do.

References:
    | Avalanche: A PyTorch Library for Deep Continual Learning (Carta et al., JMLR 2023)
    | https://www.jmlr.org/papers/v24/23-0130.html, ReplayPlugin and ReplayDataLoader of 0.6

An epoch of the stream begins a round.

Differences from Avalanche: none in what a batch holds; the order is drawn from our own stream.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import final

import torch
from torch import Tensor, nn

from distill.condenser import Condenser
from distill.images import LabelledImages
from distill.networks import Network
from fedcl.continual.base import Lesson, Moment, Rehearsal, plain
from fedcl.memory import Budget


@final
@dataclass(frozen=True)
class StockReplay(Rehearsal):
    """Replay from a memory that any method fills, in batches of which some are short.

    Attributes:
        method: Makes the small sets.
        buffer: How much may be kept.
    """

    method: Condenser
    buffer: Budget

    def __post_init__(self) -> None:
        self.buffer.check_method(self.method)
        self.buffer.check_unstaged("where rounds go through the memory")

    def lesson(self, moment: Moment) -> Lesson:
        """Plain training on batches that rounds of the memory extend."""
        if len(moment.held) == 0:
            return Lesson(plain)
        held, recipe = len(moment.held), moment.recipe
        steps = math.ceil(moment.images / recipe.batch)
        epochs = (rounds(held, recipe.batch, moment.rng) for _ in range(recipe.epochs))
        batches = chain.from_iterable(islice(epoch, steps) for epoch in epochs)

        def choose(*_: object) -> Tensor:
            return next(batches)

        return Lesson(plain, choose=choose)

    def classifier(self, network: Network, held: LabelledImages) -> nn.Module:  # noqa: ARG002
        """The network."""
        return network


def rounds(count: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yields rows of a memory for ever, ``batch`` at a time, the last of a round fewer.

    Args:
        count: Images in the memory.
        batch: Images at a time.
        rng: Draws the order of each round.
    """
    while True:
        yield from torch.split(torch.randperm(count, generator=rng), batch)
