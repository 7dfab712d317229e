"""A state is saved once the step after it was good, and a diverged run keeps the last such one."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from distill.condenser import Step
from experiments.checkpoints import Checkpoints


class Shelf:
    """Keeps everything that is saved, and has nothing from before."""

    def __init__(self) -> None:
        self.saved = list[Mapping]()

    def load_checkpoint(self) -> None:
        return None

    def save_checkpoint(self, state: Mapping) -> None:
        self.saved.append(state)

    def write_lines(self, name: str, rows) -> None:
        raise AssertionError("no lines are written here")

    def note(self, progress) -> None:
        raise AssertionError("nothing is noted here")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr("experiments.checkpoints.time.perf_counter", lambda: now[0])
    return now


def step(done: int, total: int = 9) -> Step:
    return Step(done, total, 1.0, lambda: {"done": done}, lambda: None)


def saved_of(times: list[float], clock: list[float], seconds: float = 20.0) -> list[int]:
    """Returns the steps whose states were saved, of one step at each of these times."""
    shelf = Shelf()
    checkpoints = Checkpoints(shelf, seconds)
    for done, time in enumerate(times, 1):
        clock[0] = 100.0 + time
        checkpoints.after(step(done, len(times) + 1), {})
    return [state["state"]["done"] for state in shelf.saved]


def test_a_state_is_saved_by_the_next_step(clock):
    shelf = Shelf()
    checkpoints = Checkpoints(shelf, 20.0)
    clock[0] += 1
    checkpoints.after(step(1), {"seconds": 1.0})
    assert shelf.saved == []
    checkpoints.after(step(2), {"seconds": 2.0})
    assert shelf.saved == [{"state": {"done": 1}, "seconds": 1.0}]


def test_the_start_is_saved_by_the_first_step(clock):
    shelf, first = Shelf(), step(1)
    checkpoints = Checkpoints(shelf, 20.0)
    clock[0] += 1
    checkpoints.after(replace(first, start={"done": 0}), {"seconds": 1.0})
    assert shelf.saved == [{"state": {"done": 0}, "seconds": 1.0}]
    checkpoints.after(step(2), {})
    assert [saved["state"]["done"] for saved in shelf.saved] == [0, 1]


def test_the_last_steps_state_is_saved_at_once(clock):
    shelf = Shelf()
    Checkpoints(shelf, 20.0).after(step(9), {})
    assert shelf.saved == [{"state": {"done": 9}}]


def test_states_come_when_twice_the_time_has_passed(clock):
    # The first is that of 1 s; more than 1 s later comes that of 3, more than 3 s later that of 7.
    assert saved_of([float(second) for second in range(1, 12)], clock) == [1, 3, 7]


def test_states_come_at_even_intervals_later(clock):
    # The first at 30 s, then every more than 20: at 60, 90 and 120; the one at 120 waits.
    assert saved_of([30.0, 40.0, 60.0, 70.0, 90.0, 91.0, 120.0], clock) == [1, 3, 5]
