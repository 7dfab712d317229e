"""A memory stays in its budget, divides it among classes, and comes back from its state."""

import pytest
import torch

from distill.coresets import KMeans, Random
from distill.images import LabelledImages, Normalisation
from fedcl.memory import Budget, Memory

NORMAL = Normalisation([0.5], [0.25])


def experience(classes: list[int], each: int = 6) -> LabelledImages:
    rng = torch.Generator().manual_seed(sum(classes))
    labels = torch.tensor(classes).repeat_interleave(each)
    pixels = torch.randint(0, 256, (len(labels), 1, 8, 8), generator=rng, dtype=torch.uint8)
    return LabelledImages(NORMAL(pixels), labels, 4)


def memory(**budget) -> Memory:
    filled = {"images": None, "bytes": None, "allocation": "fixed", "store": "uint8"} | budget
    return Memory.empty(Budget(**filled), (1, 8, 8), 4, NORMAL)


def sizes(held: Memory) -> dict[int, int]:
    return {label: len(images) for label, images in held.kept.items()}


def test_fixed_allocation_reserves_every_class_its_share():
    held = memory(images=8).learn(experience([3, 1]), Random(), 0)
    assert sizes(held) == {1: 2, 3: 2}
    assert sizes(held.learn(experience([0, 2]), Random(), 1)) == {1: 2, 3: 2, 0: 2, 2: 2}


def test_adaptive_allocation_divides_all_among_the_classes_seen():
    # 9 images: 5 + 4 for two classes, then 3 + 2 + 2 + 2 for four.
    held = memory(images=9, allocation="adaptive").learn(experience([0, 1]), Random(), 0)
    assert sizes(held) == {0: 5, 1: 4}
    assert sizes(held.learn(experience([2, 3]), Random(), 1)) == {0: 3, 1: 2, 2: 2, 3: 2}


def test_shrinking_keeps_images_that_were_stored():
    first = memory(images=8, allocation="adaptive").learn(experience([0, 1]), Random(), 0)
    second = first.learn(experience([2, 3]), Random(), 1)
    stored = {bytes(image.numpy()) for image in first.kept[0]}
    assert {bytes(image.numpy()) for image in second.kept[0]} <= stored


def test_a_class_that_comes_back_is_made_of_both():
    held = memory(images=4).learn(experience([0]), KMeans(), 0)
    old = held.data().images[0]
    again = held.learn(experience([0, 1]), KMeans(), 1)
    # One centroid of the old image and the six new ones; pixels rounded to 1/255 / 0.25.
    new = experience([0, 1]).of_class(0)
    expected = torch.cat([old.unsqueeze(0), new]).mean(0)
    assert (again.data().of_class(0)[0] - expected).abs().max() <= 0.5 / 255 / 0.25 + 1e-5


@pytest.mark.parametrize(("store", "one"), [("uint8", 65), ("float32", 257)])
def test_bytes_count_what_is_stored(store, one):
    held = memory(bytes=8 * one + 3, store=store).learn(experience([0, 1]), Random(), 0)
    assert len(held) == 4
    assert held.bytes == 4 * one


def test_state_brings_the_same_images_back():
    held = memory(images=8).learn(experience([2, 0]), Random(), 0)
    back = memory(images=8).restored(held.state())
    assert list(back.kept) == list(held.kept)
    assert back.data().images.equal(held.data().images)


def test_too_small_a_budget_is_refused():
    with pytest.raises(ValueError, match=r"each of 4 classes, got 3 images \(buffer.images=3\)"):
        memory(images=3)


def test_both_limits_or_none_are_refused():
    with pytest.raises(ValueError, match=r"exactly one .* got images=1 and bytes=1"):
        memory(images=1, bytes=1)
    with pytest.raises(ValueError, match=r"exactly one .* got images=None and bytes=None"):
        memory()
