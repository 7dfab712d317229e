"""Every store keeps its bytes, and gives back images as near as its mathematics says."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from distill.images import Normalisation
from fedcl.stores.base import Frame, Store
from fedcl.stores.bases import Bases
from fedcl.stores.float32 import Float32
from fedcl.stores.jpeg import Jpeg
from fedcl.stores.low_rank import LowRank
from fedcl.stores.uint8 import Uint8

M, S = [0.5, 0.4, 0.6], [0.25, 0.2, 0.3]
COLOURS = Normalisation(M, S)
STORES = [Uint8(), Float32(), Jpeg(120), LowRank(3), Bases(5)]


def smooth(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Pixels that change slowly, as those of pictures do, uint8."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=rng) * 255
    return torch.nn.functional.interpolate(coarse, (16, 12), mode="bilinear").byte()


def frame(store: Store, images: Tensor) -> Frame:
    channels = images.shape[1]
    normalisation = Normalisation(M[:channels], S[:channels])
    return Frame(tuple(images.shape[1:]), normalisation, store.share(images))


@pytest.mark.parametrize("store", STORES, ids=lambda store: type(store).__name__)
def test_rows_take_the_bytes_that_are_counted(store):
    images = COLOURS(smooth(7))
    kept = frame(store, images)
    rows = store.encode(images, kept)
    assert len(rows) == 7
    assert (rows.nbytes // 7, kept.shared.nbytes) == store.sizes((3, 16, 12))


# By hand, of 3 x 16 x 12 = 576 pixels: 2 x 3 x 3 x (16 + 12) = 504; 2 x 5, and 2 x 5 x 576.
SIZES = [(576, 0), (2304, 0), (120, 0), (504, 0), (10, 5760)]


@pytest.mark.parametrize(("store", "sizes"), zip(STORES, SIZES, strict=True), ids=str)
def test_bytes_are_those_worked_by_hand(store, sizes):
    assert store.sizes((3, 16, 12)) == sizes


@pytest.mark.parametrize("store", [Uint8(), Float32(), LowRank(3), Bases(5)], ids=str)
def test_what_was_kept_once_is_kept_again_without_loss(store):
    images = COLOURS(smooth(7))
    kept = frame(store, images)
    once = store.decode(store.encode(images, kept), kept)
    twice = store.decode(store.encode(once, kept), kept)
    torch.testing.assert_close(twice, once, rtol=0, atol=4e-3)  # halves have 11 bits


def test_bytes_come_back_as_they_were():
    pixels = smooth(4)
    kept = frame(Uint8(), COLOURS(pixels))
    rows = Uint8().encode(COLOURS(pixels), kept)
    assert rows.equal(pixels)
    assert Uint8().decode(rows, kept).equal(COLOURS(pixels))


def test_low_rank_error_is_that_of_the_singular_values_left_out():
    images = COLOURS(smooth(4))
    kept = frame(LowRank(2), images)
    error = LowRank(2).decode(LowRank(2).encode(images, kept), kept) - images
    left_out = torch.stack(
        [torch.linalg.svdvals(channel)[2:].square().sum() for channel in images.flatten(0, 1)]
    )
    found = error.flatten(0, 1).square().sum((1, 2))
    torch.testing.assert_close(found, left_out, rtol=0.02, atol=1e-3)


def test_rank_one_by_hand():
    # (2, 4, 6, ...) times (1, 1, ...): singular values one, so rank one is exact, but for halves.
    image = (2.0 * torch.arange(1, 9).float()).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    kept = Frame((1, 8, 8), Normalisation([0.5], [0.25]), torch.zeros(0))
    back = LowRank(1).decode(LowRank(1).encode(image, kept), kept)
    torch.testing.assert_close(back, image, rtol=2e-3, atol=0)


def test_enough_bases_keep_images_exactly():
    few = COLOURS(smooth(5))
    mixed = torch.tensor([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0.2, 0.3, 0.1, 0.4]])
    images = (mixed @ few.flatten(1)).view(3, 3, 16, 12)
    kept = frame(Bases(5), few)
    back = Bases(5).decode(Bases(5).encode(images, kept), kept)
    torch.testing.assert_close(back, images, rtol=0, atol=6e-3)


def test_bases_are_the_best_of_their_number():
    images = COLOURS(smooth(40))
    kept = frame(Bases(6), images)
    error = Bases(6).decode(Bases(6).encode(images, kept), kept) - images
    left_out = torch.linalg.svdvals(images.flatten(1))[6:].square().sum()
    torch.testing.assert_close(error.square().sum(), left_out, rtol=1e-3, atol=0)


def test_bases_that_none_needs_are_empty():
    shared = Bases(8).share(COLOURS(smooth(3)))
    assert shared.shape == (8, 576)
    assert shared.any(1).tolist() == [True] * 3 + [False] * 5


@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_row_is_what_an_ordinary_file_decodes_to(channels):
    from torchvision.io import decode_jpeg, encode_jpeg

    pixels = smooth(3, channels)
    kept = frame(Jpeg(150), Normalisation(M[:channels], S[:channels])(pixels))
    images = kept.normalisation(pixels)
    rows = Jpeg(150).encode(images, kept)
    back = kept.normalisation.quantise(Jpeg(150).decode(rows, kept))
    for row, image, found in zip(rows, pixels, back, strict=True):
        assert found.equal(decode_jpeg(encode_jpeg(image, int(row[0]))))


def test_a_jpeg_row_has_the_highest_quality_that_fits():
    from torchvision.io import encode_jpeg

    pixels = smooth(6, 1)
    images = Normalisation(M[:1], S[:1])(pixels)
    rows = Jpeg(60).encode(images, frame(Jpeg(60), images))
    # 328 bytes of header, those of grey images; two of the end marker, one of the quality.
    for row, image in zip(rows, pixels, strict=True):
        sizes = [len(encode_jpeg(image, int(row[0]) + more)) - 328 - 2 + 1 for more in (0, 1)]
        assert sizes[0] <= 60 < sizes[1]


def test_more_bytes_never_lower_the_quality():
    images = COLOURS(smooth(5))
    found = [
        Jpeg(size).encode(images, frame(Jpeg(size), images))[:, 0].int()
        for size in (60, 90, 140, 300)
    ]
    assert all((more >= less).all() for less, more in pairwise(found))
    assert (found[-1] > found[0]).all()


def test_compressed_data_that_ends_in_the_fill_byte_comes_back():
    # Every image of many decodes to what its own file does, whatever its last byte is.
    images = COLOURS(smooth(60, seed=1))
    kept = frame(Jpeg(100), images)
    back = Jpeg(100).decode(Jpeg(100).encode(images, kept), kept)
    assert (back - images).square().mean() < images.var() / 10


def test_a_jpeg_row_with_room_to_spare_is_of_full_quality_and_filled_up():
    images = COLOURS(smooth(2))
    rows = Jpeg(2000).encode(images, frame(Jpeg(2000), images))
    assert rows[:, 0].tolist() == [100, 100]
    assert rows[:, -1].tolist() == [255, 255]  # what T.81 allows before a marker


def test_jpeg_takes_a_quarter_of_the_pixels_where_nothing_is_given():
    assert Jpeg(None).sizes((1, 28, 28)) == (196, 0)


def test_an_image_that_no_quality_makes_small_enough_is_refused():
    noise = torch.randint(0, 256, (1, 3, 16, 12), generator=torch.Generator().manual_seed(0))
    images = COLOURS(noise.byte())
    with pytest.raises(ValueError, match=r"bytes_each must be >= \d+ for an image .*, got 9$") as e:
        Jpeg(9).encode(images, frame(Jpeg(9), images))
    least = int(str(e.value).split(">= ")[1].split(" ")[0])
    assert Jpeg(least).encode(images, frame(Jpeg(least), images))[0, 0] <= 2  # as small as 1


REFUSED = {
    r"storage.rank must be >= 1, got 0": lambda: LowRank(0),
    r"storage.rank must be <= 12 for images of 16x12, got 13": lambda: LowRank(13).sizes(
        (3, 16, 12)
    ),
    r"storage.bases must be >= 1, got 0": lambda: Bases(0),
    r"storage.bytes_each must be >= 2, got 1": lambda: Jpeg(1),
    r"storage=jpeg must get 1 or 3 channels, got 2": lambda: Jpeg(None).sizes((2, 8, 8)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_no_store_can_do_is_refused(reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        REFUSED[reason]()
