"""A pace is that of a few units, of a few pieces."""

from itertools import count

import pytest

from distill.work import Work
from experiments import pace
from experiments.pace import Pace, patience, spread_out


def piece(units, log=None):
    def do(count):
        if log is not None:
            log.append(min(count, units))
        return units

    return Work("work", units, do)


def test_the_first_unit_counts_once_for_each_piece():
    # 2 s for the first and 0.5 s for each of 8 others.
    assert Pace(7.0, 2.0, 0.5, 100.0).seconds(piece(9)) == 6.0


def test_a_piece_of_unknown_units_has_those_that_doing_showed():
    told = Pace.of([Work("work", None, lambda _: 12)])
    assert told.units_of(Work("work", None, lambda _: 12)) == 12


def test_no_more_units_are_done_than_a_look_takes(monkeypatch):
    log = []
    monkeypatch.setattr(pace, "LOOK", 0.0)
    Pace.of([piece(1000, log)])
    assert log == [1, 1]  # one that warms up, and one that counts


def test_a_quick_piece_is_done_whole():
    log = []
    Pace.of([piece(20, log)])
    assert log == [1, 1, 4, 16, 20]


def test_samples_reach_from_the_smallest_to_the_largest():
    pieces = [piece(units) for units in (9, 1, 5, 3, 7)]
    assert [work.units for work in spread_out(pieces)] == [1, 5, 9]
    assert [work.units for work in spread_out(pieces[:1])] == [9]


def for_ever():
    for _ in count():
        pass


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(pace, "PATIENCE", 0.05)
    with pytest.raises(TimeoutError), patience():
        for_ever()
