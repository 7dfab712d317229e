"""A permuted experience has all classes, their pixels in one order of its own."""

import pytest
import torch

from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.permuted import Permuted, permuted


def part(count: int, seed: int, channels: int = 1) -> LabelledImages:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randn(count, channels, 8, 10, generator=rng)
    return LabelledImages(images, torch.arange(count) % 3, 3)


def test_pixel_p_is_the_pixel_that_the_order_says():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    order = torch.tensor([5, 0, 1, 2, 4, 3])
    assert permuted(image, order).tolist() == [[[[5, 0, 1], [2, 4, 3]]]]


def test_the_first_experience_is_as_it_is_and_the_others_are_permuted_by_their_streams():
    train, test = part(12, 1), part(6, 2)
    experiences = Permuted(3, divided=False).divide(train, test, seed=7)
    assert experiences[0].train.images().images.equal(train.images)
    for index in (1, 2):
        order = torch.randperm(80, generator=derive(7, "permutation", index))
        for seen, data in ((experiences[index].train, train), (experiences[index].test, test)):
            expected = [image.flatten()[order].view(1, 8, 10) for image in data.images]
            assert seen.images().images.equal(torch.stack(expected))
            assert seen.images().labels.equal(data.labels)


def test_all_channels_are_permuted_alike():
    grey = part(3, 1)
    colour = LabelledImages(grey.images.expand(-1, 3, -1, -1), grey.labels, 3)
    seen = Permuted(2, divided=False).divide(colour, colour, 0)[1].train.images().images
    assert seen[:, :1].expand(-1, 3, -1, -1).equal(seen)
    assert not seen.equal(colour.images)


def test_every_experience_is_of_all_classes_and_tells_no_task():
    stream = Permuted(3, divided=True)
    assert [e.classes for e in stream.divide(part(12, 1), part(6, 2), 0)] == [[0, 1, 2]] * 3
    assert stream.tells_tasks is False


def test_undivided_experiences_have_every_training_image_and_divided_ones_a_share():
    train, test = part(14, 1), part(6, 2)
    whole, shares = (Permuted(4, divided).divide(train, test, 0) for divided in (False, True))
    assert [e.train.rows.tolist() for e in whole] == [list(range(14))] * 4
    assert [e.test.rows.tolist() for e in (*whole, *shares)] == [list(range(6))] * 8
    # 14 = 4 + 4 + 3 + 3.
    assert sorted(len(e.train) for e in shares) == [3, 3, 4, 4]
    assert sorted(row for e in shares for row in e.train.rows.tolist()) == list(range(14))


def test_no_experience_is_refused():
    with pytest.raises(ValueError, match=r"stream.experiences must be >= 1, got 0"):
        Permuted(0, divided=False)
