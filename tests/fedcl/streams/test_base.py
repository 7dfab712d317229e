"""What all streams share: shares of a data set, and experiences that lack nothing."""

import pytest
import torch

from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.base import by_classes, by_views, stratified_shares, unchanged


def part(labels: list[int]) -> LabelledImages:
    return LabelledImages(torch.zeros(len(labels), 1, 8, 8), torch.tensor(labels), 3)


def test_shares_differ_by_one_image_in_size_and_in_every_class():
    labels = torch.tensor([0] * 7 + [1] * 10 + [2] * 5)
    shares = stratified_shares(labels, 4, derive(0))
    # 22 = 6 + 6 + 5 + 5; 7, 10 and 5 images in four shares: 1 to 2, 2 to 3, 1 to 2.
    assert sorted(len(rows) for rows in shares) == [5, 5, 6, 6]
    counts = torch.stack([torch.bincount(labels[rows], minlength=3) for rows in shares])
    assert counts.amin(0).tolist() == [1, 2, 1]
    assert counts.amax(0).tolist() == [2, 3, 2]
    assert torch.cat(shares).sort().values.tolist() == list(range(22))
    assert all(rows.tolist() == sorted(rows.tolist()) for rows in shares)


def test_shares_are_drawn():
    labels = torch.zeros(20, dtype=torch.int64)
    first, again, other = (stratified_shares(labels, 2, derive(s))[0] for s in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


@pytest.mark.parametrize("lacking", ["training", "test"])
def test_an_experience_lacks_no_image_of_its_classes(lacking):
    parts = {"training": part([0, 1, 2]), "test": part([0, 1, 2])} | {lacking: part([0, 2, 2])}
    reason = f"an experience must have {lacking} images of each .* got none of class 1"
    with pytest.raises(ValueError, match=reason):
        by_classes(parts["training"], parts["test"], [[0, 2], [1]])
    by_classes(parts["training"], parts["test"], [[0], [2]])


def test_more_shares_than_images_of_a_class_are_refused():
    data = part([0, 0, 1, 1, 2])
    with pytest.raises(ValueError, match="an experience must have training images of each"):
        by_views(data, data, [unchanged] * 2, divided=True, seed=0)
