"""How unlike clients are agrees with numbers worked by hand."""

import pytest
import torch

from fedcl.heterogeneity import class_counts, heterogeneity


def test_class_counts_are_images_of_each_client_and_class():
    parts = [torch.tensor([0, 3]), torch.tensor([1, 2, 4])]
    labels = torch.tensor([0, 2, 2, 0, 1])
    assert class_counts(parts, labels, 4).tolist() == [[2, 0, 0, 0], [0, 1, 2, 0]]


def test_heterogeneity_is_the_mean_total_variation_distance():
    # All: (4, 4) / 8 = (1/2, 1/2). Client 0, (3, 1) / 4: |3/4 - 1/2| + |1/4 - 1/2| over 2
    # is 1/4. Client 1, (1, 1) / 2: 0. Client 2, (0, 2) / 2: 1/2. Their mean is 1/4.
    assert heterogeneity(torch.tensor([[3, 1], [1, 1], [0, 2]])) == 0.25


def test_heterogeneity_spans_alike_clients_to_one_class_each():
    assert heterogeneity(torch.tensor([[2, 6], [1, 3]])) == 0.0
    assert heterogeneity(torch.eye(5, dtype=torch.int64) * 4) == pytest.approx(1 - 1 / 5)


def test_heterogeneity_ignores_the_order_of_clients_and_classes(rng):
    counts = torch.randint(1, 9, (6, 4), generator=rng)
    assert heterogeneity(counts.flip(0).flip(1)) == pytest.approx(heterogeneity(counts))


@pytest.mark.parametrize("counts", [[[1, 2], [0, 0]], [1, 2]])
def test_heterogeneity_refuses_empty_clients(counts):
    with pytest.raises(ValueError, match=r"counts must be \(clients, classes\) with an image in"):
        heterogeneity(torch.tensor(counts))
