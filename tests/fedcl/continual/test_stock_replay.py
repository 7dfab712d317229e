"""Stock replay brings the batches that Avalanche's loader brings, which its own test counts."""

from itertools import islice

import torch

from fedcl.continual.stock_replay import rounds


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
