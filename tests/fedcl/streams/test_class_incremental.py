"""Streams bring every class exactly once, in an order that the seed decides."""

from itertools import chain
from pathlib import Path

import pytest
import torch
import yaml

from distill.rng import derive
from fedcl.streams.base import experience_rows
from fedcl.streams.class_incremental import ClassIncremental

CONFIG = Path(__file__).parents[3] / "configs" / "stream" / "class_incremental.yaml"


@pytest.mark.parametrize(
    ("experiences", "sizes"),
    # 10 = 5 * 2; 10 = 3 * 3 + 1, so the first has four; 10 = 4 * 2 + 2, so two have three.
    [(5, [2] * 5), (3, [4, 3, 3]), (4, [3, 3, 2, 2]), (1, [10]), (10, [1] * 10)],
)
def test_classes_are_dealt_evenly_and_each_arrives_once(experiences, sizes):
    stream = ClassIncremental(experiences).split(10, seed=0)
    assert [len(classes) for classes in stream] == sizes
    assert sorted(chain(*stream)) == list(range(10))


def test_classes_follow_the_permutation_named_class_order():
    order = torch.randperm(10, generator=derive(7, "class order")).tolist()
    assert ClassIncremental(5).split(10, seed=7) == [order[i : i + 2] for i in range(0, 10, 2)]


def test_the_order_does_not_depend_on_the_number_of_experiences():
    five, two = ([*chain(*ClassIncremental(e).split(10, seed=3))] for e in (5, 2))
    assert five == two


def test_equal_seeds_give_equal_orders():
    first, again, other = (ClassIncremental(5).split(10, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_more_experiences_than_classes_are_refused():
    with pytest.raises(ValueError, match=r"stream.experiences must be <= 10, .* got 11"):
        ClassIncremental(11).split(10, seed=0)


def test_no_experience_is_refused():
    with pytest.raises(ValueError, match=r"stream.experiences must be >= 1, got 0"):
        ClassIncremental(0)


def test_experience_rows_are_the_images_of_its_classes():
    labels = torch.tensor([3, 0, 1, 3, 2, 0])
    rows = experience_rows(labels, [3, 0])
    assert rows.tolist() == [0, 1, 3, 5]
    assert rows.dtype == torch.int64


def test_experiences_divide_the_images(rng):
    labels = torch.randint(0, 10, (100,), generator=rng)
    stream = ClassIncremental(3).split(10, seed=0)
    rows = torch.cat([experience_rows(labels, classes) for classes in stream])
    assert rows.sort().values.tolist() == list(range(100))


def test_a_class_without_images_adds_no_row():
    assert experience_rows(torch.tensor([0, 1]), [2]).tolist() == []


def test_sizes_cut_the_order_where_they_say():
    order = torch.randperm(10, generator=derive(2, "class order")).tolist()
    stream = ClassIncremental(3, sizes=[5, 1, 4])
    assert stream.split(10, seed=2) == [order[:5], order[5:6], order[6:]]


def test_unshuffled_classes_come_in_their_own_order_whatever_the_seed():
    stream = ClassIncremental(2, shuffled=False, sizes=[1, 3])
    assert [stream.split(4, seed) for seed in (0, 1)] == [[[0], [1, 2, 3]]] * 2


def test_sizes_must_be_those_of_all_classes():
    with pytest.raises(ValueError, match=r"stream.sizes must add up to 10, .* got 9"):
        ClassIncremental(2, sizes=[5, 4]).split(10, seed=0)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([5, 5, 0], "stream.sizes must be >= 1, got 0"), ([5, 5], "must be 3 numbers, .* got 2")],
)
def test_sizes_must_be_one_whole_number_for_each_experience(sizes, reason):
    with pytest.raises(ValueError, match=reason):
        ClassIncremental(3, sizes=sizes)


def test_the_log_says_how_classes_are_split_that_experiences_do_not_divide(caplog):
    for stream in (ClassIncremental(5), ClassIncremental(2, sizes=[3, 7]), ClassIncremental(3)):
        stream.split(10, seed=0)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "3 experiences do not divide 10 classes: they have 4, 3, 3 classes")
    ]


def test_only_a_task_incremental_stream_tells_tasks():
    assert [ClassIncremental(2, tells_tasks=told).tells_tasks for told in (True, False)] == [
        True,
        False,
    ]


def test_config_builds_the_stream_and_says_what_it_is():
    text = CONFIG.read_text()
    assert text.startswith("# class_incremental: ")
    config = yaml.safe_load(text)
    assert config.pop("_target_") == "fedcl.streams.class_incremental.ClassIncremental"
    assert ClassIncremental(**config) == ClassIncremental(5)
