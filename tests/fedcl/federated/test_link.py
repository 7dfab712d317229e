"""A link model turns bytes and images into seconds, and decides who is too late."""

from dataclasses import replace

import pytest

from fedcl.federated.app import client_app
from fedcl.federated.availability import ALWAYS, Availability
from fedcl.federated.channel import Channel
from fedcl.federated.fedavg import FedAvg
from fedcl.federated.grid import Exchange
from fedcl.federated.link import Link
from fedcl.federated.remote import RemoteGrid
from fedcl.federated.simulation import Simulation
from fedcl.federated.strategy import RoundFailedError, Rules
from fedcl.wire import BadUploadError

NODES = [2**63 + 5, 2**62 + 1, 2**63 + 9]
PLAIN = Link(
    up=1000.0,
    down=4000.0,
    latency=0.25,
    seconds_per_image=0.5,
    stragglers=0.0,
    slowdown=3.0,
    deadline=None,
)
# 1000 bytes down take 2 s and 500 up 4 s, two messages 0.5 s, six images 3 s.
EXCHANGE, IMAGES, SECONDS = Exchange(100, 1000, 500, 0, 0, 77.0), 6, 2 + 4 + 0.5 + 3


@pytest.fixture
def play(world, plain):
    """Plays a round of averaging over a link; the clients have 12, 6 and 9 images."""

    def played(link, availability=ALWAYS, seed=0):
        rules = Rules(1.0, 0.0, availability, link)
        simulation = Simulation({"update": FedAvg(1, plain())}, replace(world, seed=seed), rules)
        return simulation.play("update", 1), simulation.task.weights

    return played


def test_seconds_are_those_of_both_ways_and_of_the_work():
    assert PLAIN.seconds(EXCHANGE, IMAGES, slow=False) == SECONDS


def test_everything_takes_a_straggler_longer():
    assert PLAIN.seconds(EXCHANGE, IMAGES, slow=True) == 3 * SECONDS


def test_who_never_answers_has_no_seconds():
    assert PLAIN.seconds(replace(EXCHANGE, bytes_up=0), IMAGES, slow=False) is None


def test_stragglers_are_a_share_to_the_nearest_client_drawn_by_the_seed():
    link = replace(PLAIN, stragglers=0.26)
    assert len(link.slow(10, 0)) == 3
    assert PLAIN.slow(10, 0) == []
    assert len({tuple(link.slow(10, seed)) for seed in range(9)}) > 1


@pytest.mark.parametrize(
    ("deadline", "seconds", "expected"),
    [
        (None, [1.0, 5.0, 2.0], 5.0),
        (None, [1.0, None, 2.0], 2.0),
        (None, [None], 0.0),
        (9.0, [1.0, 5.0, 2.0], 5.0),
        (5.0, [1.0, 5.0, 2.0], 5.0),
        (4.0, [1.0, 5.0, 2.0], 4.0),
        (4.0, [1.0, None, 2.0], 4.0),
    ],
)
def test_a_round_waits_for_the_last_answer_or_for_the_deadline(deadline, seconds, expected):
    assert replace(PLAIN, deadline=deadline).of_round(seconds) == expected


def test_who_answers_at_the_deadline_is_in_time():
    link = replace(PLAIN, deadline=SECONDS)
    link.check(SECONDS)
    with pytest.raises(BadUploadError, match=r"within 9.5 s, got one after 9.6 s"):
        link.check(SECONDS + 0.1)


def test_seconds_of_clients_and_round_follow_from_the_recorded_bytes(play, world):
    link = replace(PLAIN, stragglers=0.34)
    report, _ = play(link)
    (slow,) = link.slow(3, world.seed)
    for row in report.clients:
        way = row["bytes_down"] * 8 / 4000 + row["bytes_up"] * 8 / 1000
        expected = (way + 0.5 + row["images"] * 0.5) * (3 if row["client"] == slow else 1)
        assert row["simulated_seconds"] == pytest.approx(expected)
    slowest = max(row["simulated_seconds"] for row in report.clients)
    assert report.totals["simulated_seconds"] == slowest


def test_time_is_only_recorded_where_it_is_simulated(play):
    report, _ = play(None)
    assert "simulated_seconds" not in report.totals
    assert all("simulated_seconds" not in row for row in report.clients)


def test_a_link_without_a_deadline_alters_no_number(play):
    (with_link, weights), (without, others) = play(PLAIN), play(None)
    assert all((weights[key].numpy() == others[key].numpy()).all() for key in others)
    assert with_link.totals["bytes_up"] == without.totals["bytes_up"]
    assert with_link.totals["failures"] == 0


# 0.25 s a message and nothing else but work, 6.5, 3.5 and 5 s: client 0 is late.
CUTTING = replace(PLAIN, up=1e12, down=1e12, deadline=6.0)


def test_who_answers_after_the_deadline_is_a_failure_and_its_bytes_count(play):
    report, _ = play(CUTTING)
    failures = [row["failure"] for row in report.clients]
    assert failures == ["answers must come within 6 s, got one after 6.5 s", None, None]
    assert report.totals["failures"] == 1
    assert report.totals["simulated_seconds"] == 6.0
    assert report.clients[0]["simulated_seconds"] == pytest.approx(6.5)
    assert report.clients[0]["bytes_up"] > 0


def test_the_late_are_averaged_no_more_than_the_absent(play, world):
    absent = Availability(dropout=0.0, late=0.34, joins=2)
    seed = next(seed for seed in range(99) if absent.late_joiners(3, seed) == [0])
    (late, weights), (rest, others) = (
        play(link, availability=availability, seed=seed)
        for link, availability in [(CUTTING, ALWAYS), (None, absent)]
    )
    assert [len(late.clients), len(rest.clients)] == [3, 2]
    assert all((weights[key].numpy() == others[key].numpy()).all() for key in others)


def test_a_deadline_that_nobody_meets_fails_the_round_with_the_reasons(play):
    with pytest.raises(RoundFailedError, match=r"client 2: answers must come within 1 s, got one"):
        play(replace(PLAIN, deadline=1.0))


def test_a_round_that_somebody_dropped_out_of_takes_the_deadline(play):
    availability = Availability(dropout=0.7, late=0.0, joins=1)
    report, _ = play(replace(PLAIN, deadline=1e6), availability=availability)
    missing = [row for row in report.clients if row["failure"] == "dropped out"]
    assert 0 < len(missing) < 3
    assert all(row["simulated_seconds"] is None for row in missing)
    assert report.totals["simulated_seconds"] == 1e6


def test_nodes_elsewhere_are_late_as_those_in_process(play, world, elsewhere, plain):
    methods = {"update": FedAvg(1, plain())}
    inner = elsewhere(client_app(methods, world, Channel()), NODES)
    grid = RemoteGrid(inner, 3, 5.0)
    remote = Simulation(methods, world, Rules(1.0, 0.0, link=CUTTING), grid=grid)
    there, (here, weights) = remote.play("update", 1), play(CUTTING)
    assert [row["failure"] for row in there.clients] == [row["failure"] for row in here.clients]
    mine = remote.task.weights
    assert all((mine[key].numpy() == weights[key].numpy()).all() for key in weights)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"up": 0}, "link.up must be > 0, got 0"),
        ({"down": -1}, "link.down must be > 0, got -1"),
        ({"latency": -0.1}, "link.latency must be >= 0, got -0.1"),
        ({"seconds_per_image": -1}, "link.seconds_per_image must be >= 0, got -1"),
        ({"stragglers": 2}, r"link.stragglers must be in \[0, 1\], got 2"),
        ({"slowdown": 0.5}, "link.slowdown must be >= 1, got 0.5"),
        ({"deadline": 0}, "link.deadline must be > 0, got 0"),
    ],
)
def test_values_outside_their_range_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        replace(PLAIN, **change)
