"""A memory stays in its budget, divides it among classes, and comes back from its state."""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import pytest
import torch

from distill.condenser import Condenser
from distill.coresets import KMeans, Random
from distill.images import LabelledImages, Normalisation
from distill.labels import SoftLabels
from fedcl.memory import Budget, Memory
from fedcl.stores.bases import Bases
from fedcl.stores.float32 import Float32
from fedcl.stores.jpeg import Jpeg
from fedcl.stores.low_rank import LowRank
from fedcl.stores.uint8 import Uint8

NORMAL = Normalisation([0.5], [0.25])


def experience(classes: list[int], each: int = 6) -> LabelledImages:
    rng = torch.Generator().manual_seed(sum(classes))
    labels = torch.tensor(classes).repeat_interleave(each)
    pixels = torch.randint(0, 256, (len(labels), 1, 8, 8), generator=rng, dtype=torch.uint8)
    return LabelledImages(NORMAL(pixels), labels, 4)


def part(count: int, seed: int) -> LabelledImages:
    """Images of class 0."""
    rng = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return LabelledImages(NORMAL(pixels), torch.zeros(count, dtype=torch.int64), 4)


def memory(**budget) -> Memory:
    filled = {"images": None, "bytes": None, "allocation": "fixed", "store": Uint8()} | budget
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


def test_prefix_keeps_the_first_images_as_they_are_stored():
    few = {"allocation": "adaptive", "shrink": "prefix", "store": Jpeg(80)}
    first = memory(images=8, **few).learn(experience([0, 1]), KMeans(), 0)
    second = first.learn(experience([2, 3]), KMeans(), 1)
    assert second.kept[0].equal(first.kept[0][:2])


@pytest.mark.parametrize("store", [Uint8(), Float32(), Jpeg(40), LowRank(2)])
def test_images_that_stay_are_not_rounded_again(store):
    held = memory(images=8, allocation="adaptive", store=store).learn(part(9, 0), Random(), 0)
    shrunk = held.learn(experience([2, 3]), Random(), 1)
    again = held.learn(part(9, 1), Random(), 2)
    assert (len(held), len(shrunk.kept[0]), len(again)) == (8, 3, 8)
    assert from_images(shrunk.kept[0], held.kept[0]) == 3
    assert from_images(again.kept[0], held.kept[0]) == 4


def test_redistilling_makes_stored_images_small_by_the_same_method():
    # Two centroids become one: their mean.
    held = memory(images=4, allocation="adaptive", store=Float32())
    first = held.learn(experience([0, 1]), KMeans(), 0)
    second = first.learn(experience([2, 3]), KMeans(), 1)
    torch.testing.assert_close(second.kept[0], first.kept[0].mean(0, keepdim=True))


def from_images(images: torch.Tensor, of: torch.Tensor) -> int:
    """How many images are among others."""
    known = {bytes(image.numpy()) for image in of}
    return sum(bytes(image.numpy()) in known for image in images)


def test_a_class_that_comes_back_is_merged_in_proportion_to_what_was_seen():
    # Four slots; six seen and six new: two each.
    held = memory(images=16).learn(part(6, 0), Random(), 0)
    again = held.learn(part(6, 1), Random(), 1)
    assert from_images(again.kept[0], held.kept[0]) == 2
    assert from_images(again.data().images, part(6, 1).images) == 2
    assert again.seen.tolist() == [12, 0, 0, 0]


def test_every_image_of_a_stream_is_as_likely_to_be_kept():
    # Three times six images and four slots: four thirds of each time on average. One count has
    # a variance of about one, so the mean of 200 is within 0.23 but for one chance in a thousand.
    parts = [part(6, seed) for seed in range(3)]
    kept = torch.zeros(3)
    for seed in range(200):
        held = memory(images=16)
        for index, new in enumerate(parts):
            held = held.learn(new, Random(), 10 * seed + index)
        kept += torch.tensor([from_images(held.data().images, new.images) for new in parts])
    torch.testing.assert_close(kept / 200, torch.full((3,), 4 / 3), atol=0.23, rtol=0)


def test_few_new_images_beside_many_seen_ones_get_a_slot_now_and_then():
    # One of 21 images, for four slots: 4/21 of the times.
    held = memory(images=16).learn(part(20, 0), Random(), 0)
    new = part(1, 1)
    again = [held.learn(new, Random(), seed).data().images for seed in range(200)]
    assert 20 <= sum(from_images(images, new.images) for images in again) <= 60


def test_new_images_take_the_slots_that_few_old_ones_left():
    held = memory(images=16).learn(part(1, 0), Random(), 0)
    again = held.learn(part(6, 1), Random(), 1)
    assert sizes(again) == {0: 4}
    assert from_images(again.kept[0], held.kept[0]) == 1


def test_the_method_makes_each_part_of_a_class_small_by_itself():
    # Four slots, six seen and 18 new: one old, and three centroids of what is new alone.
    held = memory(images=16, store=Float32(), shrink="prefix").learn(part(6, 0), KMeans(), 0)
    merged = held.learn(part(18, 1), KMeans(), 1).kept[0]
    new = memory(images=12, store=Float32()).learn(part(18, 1), KMeans(), 1).kept[0]
    rows = [row for row in merged if not row.equal(held.kept[0][0])]
    torch.testing.assert_close(torch.stack(rows), new)


@pytest.mark.parametrize("shrink", ["prefix", "redistil"])
def test_a_class_that_comes_back_keeps_images_of_every_time_alike(shrink):
    # Ten times six images for two slots: each time has a tenth of them, 30 of 300.
    times = [part(6, seed) for seed in range(10)]
    held = [0] * 10
    for seed in range(150):
        memory_ = memory(images=8, shrink=shrink)
        for i, images in enumerate(times):
            memory_ = memory_.learn(images, Random(), 100 * seed + i)
        stored = memory_.data().images
        held = [n + from_images(stored, t.images) for n, t in zip(held, times, strict=True)]
    assert sum(held) == 300
    assert all(12 <= n <= 48 for n in held)


# An image's bytes with its label, and what all share: 2 x 4 coefficients, 4 bases of 64 halves.
SIZES = [(Uint8(), 65, 0), (Float32(), 257, 0), (Jpeg(80), 81, 0), (LowRank(2), 65, 0)]
SIZES += [(Bases(4), 9, 512)]


@pytest.mark.parametrize(("store", "one", "shared"), SIZES, ids=lambda value: str(value))
def test_bytes_count_what_is_stored(store, one, shared):
    empty = memory(bytes=shared + 8 * one + one - 1, store=store)
    assert empty.bytes == 0
    held = empty.learn(experience([0, 1]), Random(), 0)
    assert len(held) == 4
    assert held.bytes == shared + 4 * one
    full = held.learn(experience([2, 3]), Random(), 1)
    assert full.bytes == shared + 8 * one


def test_classes_that_nothing_changes_are_not_stored_again():
    held = memory(images=8, store=Jpeg(80)).learn(experience([0, 1]), Random(), 0)
    after = held.learn(experience([2, 3]), Random(), 1)
    assert after.kept[0].equal(held.kept[0])


def test_shared_bases_are_those_of_all_that_is_kept():
    # Rank 8 at most in 8 images: eight bases keep all of them, whichever came first.
    held = memory(images=8, store=Bases(8)).learn(experience([0, 1]), Random(), 0)
    after = held.learn(experience([2, 3]), Random(), 1)
    plain = memory(images=8).learn(experience([0, 1]), Random(), 0)
    plain = plain.learn(experience([2, 3]), Random(), 1)
    torch.testing.assert_close(after.data().images, plain.data().images, rtol=0, atol=0.02)
    assert after.data().labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("store", [Uint8(), Jpeg(80), Bases(4)], ids=str)
def test_state_brings_the_same_images_back(store):
    held = memory(images=8, store=store).learn(experience([2, 0]), Random(), 0)
    back = memory(images=8, store=store).restored(held.state())
    assert list(back.kept) == list(held.kept)
    assert back.seen.tolist() == [6, 0, 6, 0]
    assert back.data().images.equal(held.data().images)


def chunks(images: LabelledImages, size: int) -> list[LabelledImages]:
    rows = torch.arange(len(images)).split(size)
    return [images.rows(some) for some in rows]


def test_a_stream_is_learnt_whenever_so_many_images_wait():
    # Twelve images by fives, a stage of four: learnt after 4, 8 and 12, whatever came at once.
    images, held = experience([0, 1]), memory(images=8, staged=4)
    waiting = []
    for index, some in enumerate(chunks(images, 5)):
        held = held.streamed(some, Random(), index)
        waiting.append(len(held.stage))
    assert waiting == [1, 2, 0]
    assert held.seen.tolist() == [6, 6, 0, 0]
    assert sizes(held) == {0: 2, 1: 2}


def test_what_waits_is_counted_and_learnt_at_the_end():
    images = experience([0])
    held = memory(images=8, staged=40).streamed(images, Random(), 0)
    assert (len(held), held.bytes, held.peak) == (0, 6 * 65, 6 * 65)
    ended = held.flushed(Random(), 1)
    assert ended.data().images.equal(memory(images=8).learn(images, Random(), 1).data().images)
    # Two were stored while six still waited.
    assert (ended.bytes, ended.peak) == (2 * 65, 8 * 65)
    assert ended.flushed(Random(), 2) is ended
    assert ended.streamed(part(1, 0), Random(), 3).peak == 8 * 65


@pytest.mark.parametrize("store", [Float32(), Jpeg(40), Bases(4)], ids=str)
def test_no_stream_holds_more_than_a_full_memory_and_stage(store):
    held, (row, shared) = memory(images=8, staged=4, store=store), store.sizes((1, 8, 8))
    most = shared + 8 * (row + 1) + 4 * 65
    for index, some in enumerate(chunks(experience([3, 0, 2, 1]), 3)):
        held = held.streamed(some, Random(), index)
        assert held.bytes <= held.peak <= most
    assert held.peak == most


def test_a_stream_goes_on_from_a_state():
    images, empty = experience([0, 1]), memory(images=8, staged=5)
    half = empty.streamed(images.rows(torch.arange(7)), Random(), 0)
    rest = images.rows(torch.arange(7, 12))
    on, again = (m.streamed(rest, Random(), 1) for m in (half, empty.restored(half.state())))
    assert on.data().images.equal(again.data().images)
    assert on.stage.images.equal(again.stage.images)
    assert (on.seen.tolist(), on.peak) == (again.seen.tolist(), again.peak)


def test_a_stream_without_a_stage_is_refused():
    with pytest.raises(ValueError, match=r"buffer.staged must be given .*, got null"):
        memory(images=4).streamed(part(1, 0), Random(), 0)


def test_too_small_a_budget_is_refused():
    with pytest.raises(ValueError, match=r"each of 4 classes, got 3 images \(buffer.images=3\)"):
        memory(images=3)


def test_bytes_that_hold_no_image_of_a_class_are_refused():
    with pytest.raises(ValueError, match=r"got 3 images \(buffer.bytes=259, 65 an image\)"):
        memory(bytes=4 * 65 - 1)
    with pytest.raises(ValueError, match=r"got 0 .*bytes=500, 9 an image after 512 that all share"):
        memory(bytes=500, store=Bases(4))


@final
@dataclass(frozen=True)
class Doubtful(Condenser):
    """Draws real images, and is the less sure of their class the brighter they are."""

    labels: ClassVar[SoftLabels] = SoftLabels(0.9)

    @property
    def makes_pixels(self):
        return True

    def steps(self, task, state=None):
        for step in Random().steps(task, state):
            data = step.result().data
            assert task.real.targets is None
            doubt = NORMAL.quantise(data.images).float().mean((1, 2, 3)) / 512
            sure = torch.eye(4)[data.labels] * (1 - doubt).unsqueeze(1)
            targets = sure + torch.full((len(data), 4), 0.25) * doubt.unsqueeze(1)
            small = replace(step.result(), data=replace(data, targets=targets))
            yield replace(step, result=lambda small=small: small)


def assert_doubts(held: Memory) -> None:
    """Every image that is held has the distribution that it was given."""
    data = held.data()
    doubt = NORMAL.quantise(data.images).float().mean((1, 2, 3)) / 512
    of_class = data.targets[torch.arange(len(data)), data.labels]
    torch.testing.assert_close(of_class, 1 - 0.75 * doubt, atol=1e-3, rtol=0)
    torch.testing.assert_close(data.targets.sum(1), torch.ones(len(data)), atol=2e-3, rtol=0)


SOFT = {"labels": "soft", "allocation": "adaptive"}


@pytest.mark.parametrize("shrink", ["prefix", "redistil"])
def test_distributions_stay_with_their_images_and_are_counted(shrink):
    # 64 pixels, a byte for the class and two for each of four classes' shares.
    held = memory(bytes=8 * 73 + 72, shrink=shrink, **SOFT)
    for index, new in enumerate([experience([0, 1]), experience([2, 3]), part(9, 1)]):
        held = held.learn(new, Doubtful(), index)
        assert (len(held), held.bytes, held.peak) == (8, 8 * 73, 8 * 73)
        assert_doubts(held)
    empty = memory(bytes=8 * 73, shrink=shrink, **SOFT)
    again = empty.restored(held.state())
    assert again.data().targets.equal(held.data().targets)
    assert again.bytes == held.bytes


def test_images_that_wait_have_no_distribution_until_they_are_learnt():
    held = memory(images=4, staged=6, **SOFT).streamed(experience([0]), Doubtful(), 0)
    assert_doubts(held)
    held = held.streamed(part(3, 1), Doubtful(), 1)
    assert held.bytes == 4 * 73 + 3 * 65
    assert_doubts(held.flushed(Doubtful(), 2))


def test_a_memory_of_distributions_gets_some_from_any_method():
    held = memory(images=4, **SOFT).learn(experience([2]), Random(), 0)
    assert held.data().targets.equal(torch.eye(4)[[2, 2, 2, 2]])


def test_a_method_without_distributions_is_refused_where_they_are_kept():
    soft = memory(images=4, **SOFT).budget
    soft.check_method(Doubtful())
    with pytest.raises(ValueError, match=r"^buffer.labels must be hard with a method that learns"):
        soft.check_method(Random())


def test_an_unknown_way_to_shrink_is_refused():
    with pytest.raises(ValueError, match=r"unknown buffer.shrink 'cut'; known: prefix, redistil"):
        memory(images=4, shrink="cut")


def test_both_limits_or_none_are_refused():
    with pytest.raises(ValueError, match=r"exactly one .* got images=1 and bytes=1"):
        memory(images=1, bytes=1)
    with pytest.raises(ValueError, match=r"exactly one .* got images=None and bytes=None"):
        memory()
