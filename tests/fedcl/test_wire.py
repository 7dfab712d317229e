"""Every kind of bad small set is refused with its reason, whatever its bytes claim to be."""

import io
import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, RecordDict

from fedcl.wire import BadUploadError, array_of, check_images, payload_bytes


def good() -> dict[str, Array]:
    images = np.zeros((3, 1, 8, 8), np.uint8)
    return {"images": Array(images), "counts": Array(np.array([2, 0, 1], np.int32))}


def raw(data: bytes) -> Array:
    """An array whose bytes are what a client likes, whatever its header says."""
    return Array("uint8", (3, 1, 8, 8), "numpy.ndarray", data)


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, images=np.zeros(3))
    return file.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def headed(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def images(shape=(3, 1, 8, 8), dtype=np.uint8, value=0) -> Array:
    return Array(np.full(shape, value, dtype))


def counts(*values: int, dtype=np.int32) -> Array:
    return Array(np.array(values, dtype))


BAD = {
    "an array more": ({"labels": counts(0)}, "arrays must be images, counts, got"),
    "counts of another type": (
        {"counts": counts(2, 0, 1, dtype=np.int64)},
        r"counts must be int32 of shape (3,), one a class, got int64",
    ),
    "a class more": ({"counts": counts(2, 0, 1, 0)}, "got int32 of shape (4,)"),
    "counts without a shape": ({"counts": Array(np.array(3, np.int32))}, "got int32 of shape ()"),
    "a negative count": ({"counts": counts(4, 0, -1)}, "counts must be in [0, 2], got -1 to 4"),
    "more of a class than allowed": (
        {"counts": counts(3, 0, 0)},
        "counts must be in [0, 2], got 0 to 3",
    ),
    "counts that overflow": (
        {"counts": counts(2**31 - 1, 2**31 - 1, 5)},
        "counts must be in [0, 2], got 5 to 2147483647",
    ),
    "no image": (
        {"counts": counts(0, 0, 0), "images": images((0, 1, 8, 8))},
        "with at least one image",
    ),
    "more images than counted": ({"images": images((4, 1, 8, 8))}, "got uint8 of shape (4, "),
    "images of another shape": ({"images": images((3, 1, 8, 7))}, "images must be uint8 of shape"),
    "images in a row": ({"images": images((3, 64))}, "got uint8 of shape (3, 64)"),
    "images that are no number": (
        {"images": images(dtype=np.float32, value=np.nan)},
        "images must be uint8 of shape (3, 1, 8, 8) with at least one image, got float32",
    ),
    "images out of range": ({"images": images(dtype=np.int16, value=-1)}, "got int16"),
    "no bytes": ({"images": raw(b"")}, "images must be a numeric array, got bytes that aren't"),
    "any bytes": ({"images": raw(b"not an array")}, "images must be a numeric array"),
    "a cut array": ({"images": raw(saved(np.zeros(3))[:-4])}, "images must be a numeric array"),
    "a spoilt header": (
        {"images": raw(saved(np.zeros(3)).replace(b"(3,)", b"(99("))},
        "images must be a numeric array",
    ),
    "objects": (
        {"images": raw(saved(np.array([{}], dtype=object)))},
        "images must be a numeric array",
    ),
    "an archive": ({"images": raw(archive())}, "images must be a numeric array, got NpzFile"),
    "a spoilt archive": ({"images": raw(archive()[:30])}, "images must be a numeric array"),
    "more than a memory holds": (
        {"images": raw(claiming((10**13,)))},
        "images must be a numeric array",
    ),
    "more than a number holds": (
        {"images": raw(claiming((10**20,)))},
        "images must be a numeric array",
    ),
    **{
        f"a header {header!r}": ({"images": raw(headed(header))}, "images must be a numeric array")
        for header in (
            "{'descr': (), 'fortran_order': False, 'shape': (3,)}",
            "{'descr': ',<f4', 'fortran_order': False, 'shape': (3,)}",
            "if 1:\n   a\n  b",
            "(" * 500,
        )
    },
    "another serialisation": (
        {"images": Array("uint8", (3,), "torch", saved(np.zeros(3)))},
        "images must be a numeric array",
    ),
}


def test_a_good_set_passes():
    check_images(ArrayRecord(good()), (1, 8, 8), 3, most=2)


@pytest.mark.parametrize("case", BAD)
def test_a_bad_set_is_refused_with_its_reason(case):
    changed, reason = BAD[case]
    with pytest.raises(BadUploadError, match=re.escape(reason)):
        check_images(ArrayRecord(good() | changed), (1, 8, 8), 3, most=2)


@pytest.mark.parametrize("name", ["images", "counts"])
def test_a_set_without_an_array_is_refused(name):
    left = {key: array for key, array in good().items() if key != name}
    with pytest.raises(BadUploadError, match="arrays must be images, counts, got"):
        check_images(ArrayRecord(left), (1, 8, 8), 3, most=2)


def test_bytes_that_are_no_array_are_counted_as_they_are():
    # three images of 64 bytes, three counts of 4; in place of the images, twelve bytes
    record = ArrayRecord(good())
    assert payload_bytes(RecordDict({"images": record})) == 3 * 64 + 3 * 4
    record = ArrayRecord(good() | {"images": raw(b"not an array")})
    assert payload_bytes(RecordDict({"images": record})) == 12 + 3 * 4


def test_an_array_that_is_not_there_is_refused():
    with pytest.raises(BadUploadError, match="arrays must hold counts, got images"):
        array_of(ArrayRecord({"images": images()}), "counts")
