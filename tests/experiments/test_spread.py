"""The heat map of clients and classes as text."""

import torch

from experiments.spread import spread_text


def test_a_cell_is_a_number_and_its_share_of_the_largest_in_quarters():
    # Of 8 images at most: 1 and 2 are the first quarter, 3 the second, 8 the last.
    head, first, second = spread_text(torch.tensor([[0, 1, 2], [3, 8, 0]])).splitlines()
    assert head.split() == ["client", "0", "1", "2", "images"]
    assert first.split() == ["0", "·", "1░", "2░", "3"]
    assert second.split() == ["1", "3▒", "8█", "·", "11"]


def test_many_clients_are_told_by_some_from_most_images_to_fewest():
    # Client i has i * 37 modulo 100 images of each class: 99 are client 27's, none client 0's.
    counts = (torch.arange(100) * 37 % 100).view(100, 1).repeat(1, 10)
    lines = spread_text(counts).splitlines()
    assert lines[-1] == "20 of 100, from most images to fewest"
    assert [int(lines[row].split()[0]) for row in (1, -2)] == [27, 0]
    images = [int(line.split()[-1]) for line in lines[1:-1]]
    assert images == sorted(images, reverse=True)


def test_a_hundred_classes_and_clients_fit_a_terminal():
    counts = torch.full((100, 100), 12_345)
    for classes in (10, 11, 60, 100):
        text = spread_text(counts[:, :classes])
        assert max(map(len, text.splitlines())) <= 80
    assert spread_text(counts[:3, :7]).splitlines()[1].split()[-1] == "86,415"


def test_neighbouring_classes_are_added_where_there_are_too_many():
    # 100 classes in pairs: 50 columns, of which the first holds 1 + 2 of at most 3.
    counts = torch.zeros(1, 100, dtype=torch.int64)
    counts[0, :2], counts[0, 99] = torch.tensor([1, 2]), 1
    row = spread_text(counts).splitlines()[1]
    assert row.split() == ["0", "█" + 48 * "·" + "▒", "4"]
