"""Stock replay brings the batches that Avalanche's loader brings, which its own test counts."""

from dataclasses import replace
from itertools import islice

import torch

from distill.coresets import Random
from fedcl.continual.stock_replay import StockReplay, rounds
from fedcl.memory import Budget
from fedcl.stores.uint8 import Uint8


def test_batches_of_a_round_are_whole_but_for_the_last(rng):
    # Six images in batches of four: 4 and 2 by turns, as ReplayPlugin gives (test_avalanche.py).
    batches = list(islice(rounds(6, 4, rng), 6))
    assert [len(batch) for batch in batches] == [4, 2, 4, 2, 4, 2]


def test_a_memory_below_a_batch_comes_whole_each_time(rng):
    assert [len(batch) for batch in islice(rounds(3, 4, rng), 3)] == [3, 3, 3]


def test_every_round_brings_every_image_once_in_an_order_of_its_own(rng):
    batches = list(islice(rounds(50, 20, rng), 6))
    first, second = torch.cat(batches[:3]), torch.cat(batches[3:])
    assert first.sort().values.tolist() == second.sort().values.tolist() == list(range(50))
    assert first.tolist() != second.tolist()


def test_an_epoch_begins_a_round(moment):
    # Four images in batches of three, three steps an epoch: 3, 1, 3 and again 3, 1, 3.
    recipe = replace(moment().recipe, batch=3, epochs=2)
    method = StockReplay(Random(), Budget(4, None, "fixed", Uint8()))
    lesson = method.lesson(moment(recipe=recipe, images=7))
    rows = [lesson.choose() for _ in range(6)]
    assert [len(part) for part in rows] == [3, 1, 3, 3, 1, 3]
    for epoch in (rows[:3], rows[3:]):
        assert torch.cat(epoch[:2]).sort().values.tolist() == [0, 1, 2, 3]
