"""Images, their normalisation and their bytes agree with arithmetic."""

import pickle
from dataclasses import replace

import pytest
import torch

from distill.images import LabelledImages, Normalisation, stored_bytes

HALF = Normalisation([0.5], [0.25])


def labelled(labels: list[int], num_classes: int = 4) -> LabelledImages:
    """Images whose every pixel is their row number."""
    rows = torch.arange(len(labels), dtype=torch.float32).view(-1, 1, 1, 1)
    return LabelledImages(rows.expand(-1, 1, 8, 8).clone(), torch.tensor(labels), num_classes)


def soft(labels: list[int], first: float = 0.0) -> LabelledImages:
    """The same of four classes with targets, four numbers a row that count on from ``first``."""
    hard = labelled(labels)
    targets = torch.arange(first, first + 4.0 * len(labels)).view(-1, 4)
    return replace(hard, targets=targets)


def test_normalising_subtracts_the_mean_and_divides_by_the_std():
    # 0 -> (0 - .5) / .25 = -2; 255 -> (1 - .5) / .25 = 2; 51 -> (.2 - .5) / .25 = -1.2
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(3, 1, 1, 1)
    expected = torch.tensor([-2.0, 2.0, -1.2]).view(3, 1, 1, 1)
    torch.testing.assert_close(HALF(pixels), expected)


def test_every_channel_has_its_own_statistics():
    # channel 0: (1 - 0) / 1 = 1; channel 1: (1 - .5) / .1 = 5
    white = torch.full((1, 2, 1, 1), 255, dtype=torch.uint8)
    expected = torch.tensor([1.0, 5.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(Normalisation([0, 0.5], [1, 0.1])(white), expected)


def test_normalising_leaves_the_stored_images_alone():
    pixels = torch.full((1, 1, 8, 8), 7, dtype=torch.uint8)
    HALF(pixels)
    assert (pixels == 7).all()


def test_quantising_inverts_normalising_on_every_grey_level():
    levels = torch.arange(256, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    normalisation = Normalisation([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010])
    quantised = normalisation.quantise(normalisation(levels))
    assert quantised.dtype == torch.uint8
    assert torch.equal(quantised, levels)


def test_quantising_rounds_to_the_nearest_level():
    # a grey level is 1 / 255 / .25 = 1 / 63.75 wide: .4 and .6 of one above black
    level = torch.tensor([-2 + 0.4 / 63.75, -2 + 0.6 / 63.75]).view(2, 1, 1, 1)
    assert HALF.quantise(level).flatten().tolist() == [0, 1]


def test_quantising_cuts_what_exceeds_black_and_white():
    assert HALF.quantise(torch.tensor([[[[-9.0, 9.0]]]])).flatten().tolist() == [0, 255]


def test_clipping_moves_only_pixels_out_of_range():
    # black is (0 - .5) / .25 = -2, white is (1 - .5) / .25 = 2
    clipped = HALF.clip(torch.tensor([[[[-9.0, -2.0, 0.3, 2.0, 9.0]]]]))
    assert clipped.flatten().tolist() == [-2.0, -2.0, pytest.approx(0.3), 2.0, 2.0]


def test_clipping_keeps_each_channel_in_its_own_range():
    # channel 0: [0, 1] / 1; channel 1: [-.5, .5] / .1
    clipped = Normalisation([0, 0.5], [1, 0.1]).clip(torch.full((1, 2, 1, 1), 9.0))
    assert clipped.flatten().tolist() == [1.0, 5.0]


def test_statistics_are_those_of_all_pixels_of_a_channel():
    # channel 0: 0 and 255, mean .5, variance (.25 + .25) / 1; channel 1: 51 twice.
    images = torch.tensor([[0, 51], [255, 51]], dtype=torch.uint8).view(2, 2, 1, 1)
    statistics = Normalisation.of(images)
    assert statistics.mean == pytest.approx((0.5, 0.2), abs=1e-12)
    assert statistics.std == pytest.approx((0.5**0.5, 1e-3), abs=1e-12)


def test_statistics_are_summed_in_float64(rng):
    images = torch.randint(256, (400, 1, 8, 8), generator=rng, dtype=torch.uint8)
    whole = int(images.long().sum())
    assert Normalisation.of(images).mean[0] == pytest.approx(whole / 25_600 / 255, rel=1e-14)


def test_normalised_images_have_mean_zero_and_std_one(rng):
    images = torch.randint(256, (50, 3, 8, 8), generator=rng, dtype=torch.uint8)
    normalised = Normalisation.of(images)(images)
    assert normalised.dtype == torch.float32
    torch.testing.assert_close(normalised.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(normalised.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)


def test_lists_and_tuples_make_equal_normalisations():
    assert Normalisation([0, 1], [1, 1]) == Normalisation((0.0, 1.0), (1.0, 1.0))
    assert hash(HALF) == hash(pickle.loads(pickle.dumps(HALF)))


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5], [0.0]), ([0.5], [-1.0]), ([0.5, 0.5], [1.0]), ([0.5], [float("nan")])]
)
def test_statistics_that_are_none_are_refused(mean, std):
    with pytest.raises(ValueError, match=r"equal lengths and std must be > 0, got \(0\.5,"):
        Normalisation(mean, std)


@pytest.mark.parametrize("method", ["__call__", "quantise", "clip"])
def test_images_of_other_channels_are_refused(method):
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8 if method == "__call__" else torch.float32)
    with pytest.raises(ValueError, match=r"^images must have 1 channels, got 3$"):
        getattr(HALF, method)(images)


def test_counts_include_classes_without_an_image():
    assert labelled([2, 0, 2]).counts.tolist() == [1, 0, 2, 0]


def test_length_and_image_shape_are_those_of_the_stack():
    data = LabelledImages(torch.zeros(5, 3, 8, 9), torch.zeros(5, dtype=torch.int64), 2)
    assert len(data) == 5
    assert data.image_shape == (3, 8, 9)


def test_rows_come_in_the_order_asked():
    rows = labelled([2, 0, 1]).rows(torch.tensor([2, 0, 2]))
    assert rows.images[:, 0, 0, 0].tolist() == [2.0, 0.0, 2.0]
    assert rows.labels.tolist() == [1, 2, 1]
    assert rows.num_classes == 4


def test_rows_take_their_targets_along():
    rows = soft([2, 0, 1]).rows(torch.tensor([2, 0]))
    assert rows.targets.tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert labelled([2, 0, 1]).rows(torch.tensor([2, 0])).targets is None


def test_a_device_takes_everything_along():
    none = torch.tensor([], dtype=torch.int64)  # of images that are nowhere nothing can be asked
    data = soft([2, 0]).rows(none).to("meta")
    for tensor in (data.images, data.labels, data.targets):
        assert tensor.device.type == "meta"


def test_moving_to_where_they_are_changes_nothing():
    data, hard = soft([2, 0]).to("cpu"), labelled([2, 0]).to("cpu")
    assert torch.equal(data.images, hard.images)
    assert data.labels.tolist() == [2, 0]
    assert data.targets.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert (data.num_classes, hard.targets) == (4, None)


@pytest.mark.parametrize(
    ("targets", "are"),
    [(None, False), ([[0.0, 1.0]], True), ([[-0.5, 0.5]], False)],
    ids=str,
)
def test_targets_are_distributions_where_none_is_below_zero(targets, are):
    targets = None if targets is None else torch.tensor(targets)
    data = LabelledImages(torch.zeros(1, 1, 8, 8), torch.tensor([0]), 2, targets)
    assert data.are_distributions is are


def test_images_of_a_class_come_in_stored_order():
    assert labelled([2, 0, 2, 1, 2]).of_class(2)[:, 0, 0, 0].tolist() == [0.0, 2.0, 4.0]


def test_a_class_may_have_no_image():
    assert labelled([2, 0]).of_class(1).shape == (0, 1, 8, 8)


def test_a_set_may_be_empty():
    empty = LabelledImages(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), 3)
    assert len(empty) == 0
    assert empty.counts.tolist() == [0, 0, 0]


def test_a_union_keeps_the_order_of_its_parts():
    union = LabelledImages.union([labelled([3, 1]), labelled([0])])
    assert union.labels.tolist() == [3, 1, 0]
    assert union.images[:, 0, 0, 0].tolist() == [0.0, 1.0, 0.0]
    assert union.num_classes == 4


def test_a_union_of_one_part_is_that_part():
    union = LabelledImages.union([labelled([3, 1])])
    assert (union.labels.tolist(), union.num_classes) == ([3, 1], 4)


def test_a_union_keeps_the_targets_of_its_parts():
    union = LabelledImages.union([soft([3]), soft([0, 1], first=4)])
    assert union.targets.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert LabelledImages.union([labelled([3]), labelled([0])]).targets is None


@pytest.mark.parametrize("parts", [[soft([3]), labelled([0])], [labelled([0]), soft([3])]])
def test_a_union_of_which_some_have_targets_is_refused(parts):
    message = r"^parts must all have targets or none, got 1 with targets$"
    with pytest.raises(ValueError, match=message):
        LabelledImages.union(parts)


def test_a_union_of_different_tasks_is_refused():
    with pytest.raises(ValueError, match=r"^parts must be .* got .*\(\(1, 8, 8\), 3\).* 4\)"):
        LabelledImages.union([labelled([0], 3), labelled([0], 4)])


def test_a_union_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^parts must be one or more sets .* got \[\]$"):
        LabelledImages.union([])


@pytest.mark.parametrize("labels", [torch.zeros(2), torch.zeros(2, dtype=torch.int32)])
def test_labels_of_another_type_are_refused(labels):
    with pytest.raises(ValueError, match=r"^labels must be int64 of shape \(2,\), got torch\."):
        LabelledImages(torch.zeros(2, 1, 8, 8), labels, 3)


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"^labels must be int64 of shape \(2,\), .*\(3,\)$"):
        LabelledImages(torch.zeros(2, 1, 8, 8), torch.zeros(3, dtype=torch.int64), 3)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (3, 4), (2, 4, 1), (4, 2)], ids=str)
def test_targets_of_another_shape_are_refused(shape):
    dimensions = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    message = rf"^targets must have shape \(2, 4\), got \({dimensions}\)$"
    with pytest.raises(ValueError, match=message):
        replace(labelled([0, 1]), targets=torch.zeros(shape))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_labels_outside_the_task_are_refused(labels):
    low, high = labels
    with pytest.raises(ValueError, match=rf"^labels must be in \[0, 3\), got {low} to {high}$"):
        labelled(labels, 3)


def test_images_too_small_are_refused():
    with pytest.raises(ValueError, match=r"^images must have shape .* got \(1, 1, 7, 7\)$"):
        LabelledImages(torch.zeros(1, 1, 7, 7), torch.tensor([0]), 3)


@pytest.mark.parametrize(
    # 10 * (784 + 1); 10 * (2 * 784 + 1); 10 * (4 * 784 + 1); 500 * (3,072 + 1)
    ("count", "shape", "store", "expected"),
    [
        (10, (1, 28, 28), "uint8", 7_850),
        (10, (1, 28, 28), "float16", 15_690),
        (10, (1, 28, 28), "float32", 31_370),
        (500, (3, 32, 32), "uint8", 1_536_500),
        (0, (3, 32, 32), "uint8", 0),
    ],
)
def test_bytes_are_those_of_pixels_and_one_a_label(count, shape, store, expected):
    assert stored_bytes(count, shape, store) == expected


def test_an_unknown_store_is_refused():
    with pytest.raises(ValueError, match=r"^unknown store 'jpeg'; known: float16, float32, uint8$"):
        stored_bytes(1, (1, 8, 8), "jpeg")
