"""Streams are named: their numbers depend on seed and names, and on nothing else."""

import pytest
import torch

from distill.rng import derive, global_stream, subseed


def test_subseed_is_the_start_of_a_digest():
    # printf '7/str:client/int:3' | sha256sum begins 2c46ac8ec95ae2bf; without the last bit:
    assert subseed(7, "client", 3) == 0x2C46AC8EC95AE2BF >> 1


def test_subseeds_are_what_torch_takes_as_seeds():
    seeds = [subseed(seed, "x", index) for seed in range(20) for index in range(20)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 400


@pytest.mark.parametrize(
    "names", [("client", 4), ("client", "3"), (3, "client"), ("client",), ("client", 3, 0)], ids=str
)
def test_other_names_give_another_stream(names):
    assert subseed(7, *names) != subseed(7, "client", 3)


def test_another_seed_gives_another_stream():
    assert subseed(8, "client", 3) != subseed(7, "client", 3)


def test_names_are_not_run_together():
    assert subseed(0, "ab", "c") != subseed(0, "a", "bc")


def test_equal_names_give_equal_numbers():
    first, again = (torch.rand(9, generator=derive(7, "client", 3)) for _ in range(2))
    assert torch.equal(first, again)


def test_a_stream_starts_at_its_subseed():
    generator = derive(7, "client", 3)
    assert generator.initial_seed() == subseed(7, "client", 3)
    assert generator.device.type == "cpu"


def test_a_stream_does_not_depend_on_who_drew_before():
    first = torch.rand(9, generator=derive(7, "client", 3))
    torch.rand(5)
    torch.rand(5, generator=derive(7, "client", 2))
    assert torch.equal(torch.rand(9, generator=derive(7, "client", 3)), first)


def test_deriving_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    torch.rand(9, generator=derive(7, "client", 3))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_stream_is_the_seeded_one():
    with global_stream(5):
        drawn = torch.rand(9)
    assert torch.equal(drawn, torch.rand(9, generator=torch.Generator().manual_seed(5)))


def test_the_global_stream_puts_the_state_back():
    before = torch.get_rng_state()
    with global_stream(5):
        torch.rand(9)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_stream_puts_the_state_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(KeyError), global_stream(5):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)
