"""Real images are drawn by class, or from all classes of the task, without replacement."""

from dataclasses import replace

import pytest
import torch

from distill.condenser import Task
from distill.images import LabelledImages, Normalisation
from distill.networks import MLP, fresh
from distill.real import ClassBatch, RealData
from distill.rng import derive

HALF = Normalisation([0.5], [0.25])
LABELS = [3, 0, 2, 0, 3, 0, 3, 3, 2, 1]


def data(counts: list[int], seed: int = 0) -> RealData:
    """Ten images whose every pixel is their row number; class 1 has one image."""
    rows = torch.arange(10.0).view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    targets = torch.arange(40.0).view(10, 4)
    real = LabelledImages(rows, torch.tensor(LABELS), 4, targets)
    return RealData(Task(real, torch.tensor(counts), HALF, seed))


def rows_of(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].long().tolist()


def test_a_batch_knows_the_class_of_each_image():
    batch = ClassBatch(torch.zeros(3, 1, 8, 8), torch.tensor([1, 0, 1]), torch.tensor([4, 7]))
    assert batch.targets.tolist() == [7, 4, 7]
    assert batch.classes == 2


def test_joined_batches_keep_their_classes_apart():
    first = ClassBatch(torch.zeros(2, 1, 8, 8), torch.tensor([1, 0]), torch.tensor([4, 7]))
    second = ClassBatch(torch.ones(3, 1, 8, 8), torch.tensor([0, 0, 1]), torch.tensor([4, 5]))
    batch = ClassBatch.joined([first, second, first])
    assert batch.groups.tolist() == [1, 0, 2, 2, 3, 5, 4]
    assert batch.labels.tolist() == [4, 7, 4, 5, 4, 7]
    assert rows_of(batch.images) == [0, 0, 1, 1, 1, 0, 0]


def test_a_group_has_the_images_and_classes_of_its_row():
    images = torch.arange(3.0).view(-1, 1, 1, 1)
    batch = ClassBatch(images, torch.tensor([1, 0, 1]), torch.tensor([4, 7]))
    chosen, targets = batch.of_group(1)
    assert chosen.flatten().tolist() == [0, 2]
    assert targets.tolist() == [7, 7]


def test_a_batch_holds_so_many_images_of_each_class_none_twice(rng):
    batch = data([1, 0, 1, 1]).batch(2, rng)
    rows = rows_of(batch.images)
    assert len(set(rows)) == len(rows) == 6
    assert [LABELS[row] for row in rows] == [0, 0, 2, 2, 3, 3]
    assert batch.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.labels.tolist() == [0, 2, 3]


def test_a_class_with_fewer_images_gives_all(rng):
    batch = data([1, 1, 0, 1]).batch(3, rng)
    assert batch.groups.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert sorted(rows_of(batch.images)[:4]) == [1, 3, 5, 9]


def test_every_image_of_a_class_is_drawn_in_time(rng):
    real = data([0, 0, 0, 1])
    drawn = {row for _ in range(40) for row in rows_of(real.batch(1, rng).images)}
    assert drawn == {0, 4, 6, 7}


def test_batches_are_those_of_the_generator():
    real = data([1, 1, 1, 1])
    one, same, other = (
        rows_of(real.batch(2, torch.Generator().manual_seed(s)).images) for s in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_size_counts_the_images_of_the_tasks_classes():
    assert data([1, 1, 0, 5]).size == 3 + 1 + 4


def test_mixed_images_are_of_the_tasks_classes_none_twice(rng):
    mixed = data([1, 0, 1, 0]).mixed(4, rng)
    rows = rows_of(mixed.images)
    assert len(set(rows)) == len(mixed) == 4
    assert set(rows) <= {1, 2, 3, 5, 8}
    assert mixed.labels.tolist() == [LABELS[row] for row in rows]
    assert mixed.targets[:, 0].tolist() == [4 * row for row in rows]


def test_mixed_images_are_at_most_all_and_shuffled(rng):
    rows = rows_of(data([1, 0, 1, 0]).mixed(99, rng).images)
    assert sorted(rows) == [1, 2, 3, 5, 8]
    assert rows != [1, 3, 5, 2, 8]


def test_mixed_images_are_those_of_the_generator():
    real = data([1, 1, 1, 1])
    seeds = [torch.Generator().manual_seed(seed) for seed in (1, 1, 2)]
    one, same, other = (rows_of(real.mixed(5, seed).images) for seed in seeds)
    assert one == same
    assert one != other


def test_networks_are_those_of_the_tasks_seed_and_the_names():
    ours = data([1, 1, 1, 1], seed=3).fresh(MLP(4, 1), "network", 5)
    theirs = fresh(MLP(4, 1), (1, 8, 8), 4, derive(3, "network", 5))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("seed", "names"), [(4, ("network", 5)), (3, ("network", 6))])
def test_other_seeds_and_names_give_other_networks(seed, names):
    one = data([1, 1, 1, 1], seed=3).fresh(MLP(4, 1), "network", 5)
    other = data([1, 1, 1, 1], seed=seed).fresh(MLP(4, 1), *names)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_what_the_task_says_is_kept():
    real = data([1, 0, 1, 0], seed=7)
    assert (real.seed, real.classes, real.image_shape, real.num_classes) == (
        7,
        [0, 2],
        (1, 8, 8),
        4,
    )
    assert real.normalisation == HALF
    assert real.device == torch.device("cpu")


def test_a_batch_is_a_value():
    batch = ClassBatch(torch.zeros(1, 1, 8, 8), torch.tensor([0]), torch.tensor([1]))
    assert replace(batch, labels=torch.tensor([3])).targets.tolist() == [3]
    assert batch.targets.tolist() == [1]


def test_all_images_are_those_of_every_class():
    assert rows_of(data([0, 1, 1, 0]).data.images) == list(range(10))


def test_what_takes_long_to_learn_is_made_once_for_equal_keys():
    real, calls = data([1, 1, 1, 1]), []

    def made(value: str) -> str:
        calls.append(value)
        return value

    found = [real.once(key, lambda key=key: made(f"of {key}")) for key in ([1], [2], [1], [2])]
    assert found == ["of [1]", "of [2]", "of [1]", "of [2]"]
    assert calls == ["of [1]", "of [2]"]
    assert data([1, 1, 1, 1]).once([1], lambda: "another") == "another"
