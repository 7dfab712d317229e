"""A blurry experience has most images of its own classes, and a few of all others."""

from itertools import chain

import pytest
import torch

from distill.images import LabelledImages
from fedcl.streams.blurry import Blurry
from fedcl.streams.class_incremental import ClassIncremental


def part(each: int, classes: int = 6) -> LabelledImages:
    labels = torch.arange(classes).repeat(each)
    return LabelledImages(torch.zeros(len(labels), 1, 8, 8), labels, classes)


def test_a_share_of_each_class_leaves_and_a_share_of_each_experience_is_others():
    # 6 classes of 20 in 3 experiences, b = 0.2: 4 of each class leave, 8 of an experience's two,
    # 4 to either other; each keeps 2 * 16 and gets 4 + 4, which is 8 of 40.
    for experience in Blurry(3, 0.2).divide(part(20), part(5), seed=0):
        counts, own = experience.train.counts, list(experience.classes)
        assert counts[own].tolist() == [16, 16]
        assert (len(experience.train), int(counts.sum() - counts[own].sum())) == (40, 8)


def test_every_training_image_comes_exactly_once_whatever_divides():
    # 7 classes in 3 experiences: 3, 2, 2 classes; floor(0.3 * 5) = 1 of each class leaves.
    experiences = Blurry(3, 0.3).divide(part(5, 7), part(2, 7), seed=1)
    rows = torch.cat([experience.train.rows for experience in experiences])
    assert rows.sort().values.tolist() == list(range(35))
    assert [int(e.train.counts[list(e.classes)].sum()) for e in experiences] == [12, 8, 8]


def test_experiences_are_judged_by_their_own_classes():
    test = part(5)
    for experience in Blurry(3, 0.2).divide(part(20), test, seed=0):
        judged = experience.test.counts.nonzero().flatten().tolist()
        assert judged == sorted(experience.classes)
        assert len(experience.test) == 10


def test_what_leaves_reaches_every_other_experience_in_any_of_them():
    for index, experience in enumerate(Blurry(6, 0.5).divide(part(20), part(5), seed=0)):
        others = [c for c in range(6) if c not in experience.classes]
        assert experience.train.counts[others].tolist() == [2] * 5, index


def test_classes_come_in_the_order_of_a_class_incremental_stream():
    blurry = [list(e.classes) for e in Blurry(3, 0.1).divide(part(20), part(5), seed=4)]
    assert blurry == ClassIncremental(3).split(6, seed=4)
    assert sorted(chain(*blurry)) == list(range(6))


def test_nothing_leaves_where_the_share_is_none():
    train, test = part(20), part(5)
    for mine, theirs in zip(
        Blurry(3, 0).divide(train, test, 0), ClassIncremental(3).divide(train, test, 0), strict=True
    ):
        assert mine.train.rows.equal(theirs.train.rows)


def kept(seed: int) -> list[int]:
    """The images of class 0 that its own experience has."""
    data = part(20)
    for experience in Blurry(6, 0.5).divide(data, data, seed):
        if 0 in experience.classes:
            rows = experience.train.rows
            return rows[data.labels[rows] == 0].tolist()
    raise AssertionError("class 0 must come")


def test_the_seed_decides_what_leaves():
    assert kept(0) == kept(0) != kept(1)


def test_no_task_is_told():
    assert Blurry(2, 0.5).tells_tasks is False


@pytest.mark.parametrize(
    ("experiences", "share", "reason"),
    [
        (1, 0.1, r"stream.experiences must be >= 2, got 1"),
        (2, 1.0, r"stream.share must be in \[0, 1\), got 1.0"),
    ],
)
def test_what_is_no_stream_is_refused(experiences, share, reason):
    with pytest.raises(ValueError, match=reason):
        Blurry(experiences, share)
