"""Intransigence is told against the cumulative run of the same seed, or else the joint one."""

import pytest

from experiments.reporting.intransigence import intransigence
from fedcl.statistics import Interval

OWN = [[0.5, 0.0], [0.25, 0.5]]
BOTH = [[1.0, 0.0], [0.5, 0.75]]


@pytest.fixture
def arm(run):
    """Returns what makes one run with a matrix."""

    def made(name, matrix, seed=0, **config):
        return run(name, "continual", seed, config, metrics={"accuracy_matrix": matrix})

    return made


def found(section, name="replay-dm"):
    (only,) = (arm for arm in section.arms if arm.name == name)
    return intransigence(section, only)


def test_each_experience_is_compared_with_all_data_so_far(arm, section):
    # (1.0 - 0.5 + 0.75 - 0.5) / 2, whatever the joint network reaches.
    joint = arm("joint", [[0.5, 0.5]])
    told = found(section(arm("replay-dm", OWN), arm("cumulative", BOTH), joint))
    assert told == Interval(0.375, None, 1)


def test_the_joint_network_stands_in_for_all_experiences(arm, section):
    # The mean of 0.75 - 0.5 and 0.5 - 0.5.
    told = found(section(arm("replay-dm", OWN), arm("joint", [[0.75, 0.5]])))
    assert told == Interval(0.125, None, 1)


def test_only_seeds_of_both_are_compared(arm, section):
    seeds = [arm("replay-dm", OWN, seed) for seed in (0, 1)]
    assert found(section(*seeds, arm("cumulative", BOTH, 1))) == Interval(0.375, None, 1)
    assert found(section(*seeds, arm("cumulative", BOTH, 2))) is None


def test_the_reference_is_of_the_same_network_and_stream(arm, section):
    mlp, convnet = ({"network": {"_target_": f"distill.networks.{n}"}} for n in ("MLP", "ConvNet"))
    one, other = arm("replay-dm", OWN, **mlp), arm("cumulative", BOTH, **convnet)
    assert found(section(one, other)) is None
    same = arm("cumulative", [[0.75, 0.0], [0.5, 0.5]], **mlp)
    assert found(section(one, other, same)) == Interval(0.125, None, 1)


@pytest.mark.parametrize(("epochs", "expected"), [(1, 0.0), (5, 0.375)])
def test_of_several_references_the_most_alike_counts(arm, section, epochs, expected):
    arms = [arm("cumulative", OWN, training={"epochs": 1})]
    arms += [arm("cumulative", BOTH, training={"epochs": 5})]
    told = found(section(arm("replay-dm", OWN, training={"epochs": epochs}), *arms))
    assert told == Interval(expected, None, 1)


def test_one_network_stands_in_only_where_nothing_learns_experience_by_experience(arm, section):
    like = {"training": {"epochs": 5}}
    arms = [arm("replay-dm", OWN, **like), arm("joint", [[0.75, 0.5]], **like)]
    assert found(section(*arms, arm("cumulative", BOTH))) == Interval(0.375, None, 1)


def test_what_keeps_nothing_is_no_reference(arm, section):
    assert found(section(arm("replay-dm", OWN), arm("naive", BOTH))) is None


def test_without_a_reference_or_a_matrix_there_is_none(arm, run, section):
    assert found(section(arm("replay-dm", OWN))) is None
    plain = run("replay-dm", "continual", metrics={"average_accuracy": 0.5})
    assert found(section(plain, arm("cumulative", BOTH))) is None
    assert found(section(arm("replay-dm", OWN), run("cumulative", "continual"))) is None


def test_references_have_none_themselves(arm, section):
    both = section(arm("cumulative", BOTH), arm("joint", [[0.75, 0.5]]))
    assert found(both, "cumulative") is None
    assert found(both, "joint") is None
