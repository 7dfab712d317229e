"""Sources and decoders compose: shapes, branches, budgets and gradients, for every pair."""

import math
from dataclasses import dataclass
from typing import final

import pytest
import torch
from torch import Tensor

from distill.images import LabelledImages
from distill.labels import HardLabels
from distill.learned import Learned
from distill.parameterisations.base import Code, Decoder, Parameterisation, Source
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.low_rank import LowRank
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample

SOURCES = [Pixels(clip=False), LinearBases(bases=4, most=8), LowRank(rank=2)]
CHAINS = [
    [],
    [Upsample(2)],
    [Hallucinators(3, 2)],
    [Upsample(2), Hallucinators(2, 1)],
    [Hallucinators(2, 1), Upsample(2)],
    [Hallucinators(2, 1), Hallucinators(3, 1)],
]
PAIRS = [Parameterisation(source, chain) for source in SOURCES for chain in CHAINS]
every_pair = pytest.mark.parametrize("parameterisation", PAIRS, ids=str)
SHAPE = (1, 8, 8)


@final
@dataclass(frozen=True)
class Affine(Decoder):
    """Rows times a factor, plus an offset a branch and one a class; a number a line, unused."""

    factor: float = 1.0
    by_branch: float = 0.0
    by_class: float = 0.0
    count: int = 1
    is_given: bool = False
    lost: int = 0

    @property
    def branches(self) -> int:
        return self.count

    @property
    def learned(self) -> bool:
        return not self.is_given

    def row_shape(self, shape):
        return shape[0], shape[1] - self.lost, shape[2]

    def begin(self, real, shape, seed):
        return {"unused.deep": real.images.new_zeros(shape[1])}

    def encode(self, parameters, images, labels):
        return (images - self.by_class * labels.view(-1, 1, 1, 1)) / self.factor

    def decode(self, parameters, rows, wanted):
        offset = self.by_branch * wanted.branch + self.by_class * wanted.labels
        return rows * self.factor + offset.view(-1, 1, 1, 1)


def labelled(labels: list[int], rng: torch.Generator, num_classes: int = 3) -> LabelledImages:
    images = torch.randn(len(labels), *SHAPE, generator=rng, dtype=torch.float64)
    return LabelledImages(images, torch.tensor(labels), num_classes)


def constants(values: list[float], labels: list[int]) -> LabelledImages:
    images = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, *SHAPE).clone()
    return LabelledImages(images, torch.tensor(labels), max(labels) + 1)


def encoded(parameterisation: Parameterisation, first: LabelledImages, seed: int = 0) -> Code:
    return parameterisation.encode(parameterisation.decoding(first, seed), first, seed)


def learned(parameterisation: Parameterisation, rng: torch.Generator) -> Learned:
    return Learned(encoded(parameterisation, labelled([0, 0, 2], rng)), HardLabels(), {})


def budget(counts: Tensor) -> int:
    return int(counts.sum()) * math.prod(SHAPE)


def values(code: Code) -> list[float]:
    """Returns one pixel of each image."""
    return code.decode(torch.arange(int(code.counts.sum())))[:, 0, 0, 0].tolist()


def paid(parameterisation: Parameterisation, real: LabelledImages, counts: Tensor) -> Tensor:
    return parameterisation.rows(
        Code(parameterisation, parameterisation.decoding(real, 0), counts, SHAPE), 0
    )


@every_pair
def test_what_is_pulled_is_the_gradient_through_decoding(rng, parameterisation):
    small = learned(parameterisation, rng)
    index = torch.tensor([len(small) - 1, 0, 1, 0])
    images = small.code.decode(index)
    pull = torch.randn(images.shape, generator=rng, dtype=torch.float64)
    parameters = dict(small.parameters)
    expected = torch.autograd.grad((images * pull).sum(), list(parameters.values()))
    small.pull(index, pull)
    for ours, theirs in zip(parameters.values(), expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs, rtol=1e-13, atol=1e-13)
        assert ours.grad.abs().max() > 0


@every_pair
def test_what_is_pulled_is_the_slope_of_central_differences(rng, parameterisation):
    small, h = learned(parameterisation, rng), 1e-5
    index = torch.arange(len(small))
    pull = torch.randn(len(small), *SHAPE, generator=rng, dtype=torch.float64)
    small.pull(index, pull)
    ways = {
        name: torch.randn(p.shape, generator=rng, dtype=torch.float64)
        for name, p in small.parameters.items()
    }

    def moved(by: float) -> float:
        parameters = {name: p.detach() + by * ways[name] for name, p in small.parameters.items()}
        code = Code(parameterisation, parameters, small.code.counts, SHAPE)
        return (code.decode(index) * pull).sum().item()

    slope = sum((small.parameters[name].grad * way).sum().item() for name, way in ways.items())
    # images are polynomials of the numbers: what differences miss is of the order of h**2
    assert slope == pytest.approx((moved(h) - moved(-h)) / (2 * h), rel=1e-7)


@every_pair
def test_some_images_decode_as_they_do_among_all(rng, parameterisation):
    code = encoded(parameterisation, labelled([0, 0, 2], rng))
    everything = code.decode(torch.arange(int(code.counts.sum())))
    index = torch.tensor([len(everything) - 1, 1, 0, 1])
    assert everything.shape == (3 * parameterisation.branches, *SHAPE)
    assert everything.dtype == torch.float64
    torch.testing.assert_close(code.decode(index), everything[index], rtol=1e-13, atol=1e-13)


@every_pair
@pytest.mark.parametrize("counts", [[9, 9, 9], [12, 0, 30], [0, 20, 0]], ids=str)
def test_numbers_never_exceed_those_of_the_images(rng, parameterisation, counts):
    counts, real = torch.tensor(counts), labelled([0, 1, 2], rng)
    rows = paid(parameterisation, real, counts)
    first = real.rows(torch.arange(3).repeat_interleave(rows))
    assert encoded(parameterisation, first).numbers <= budget(counts)
    assert torch.equal(rows > 0, counts > 0)


@every_pair
def test_one_more_row_a_class_would_exceed_them(rng, parameterisation):
    if isinstance(parameterisation.source, LinearBases):
        parameterisation = Parameterisation(LinearBases(4, 1000), parameterisation.decoders)
    counts, real = torch.tensor([9, 9, 9]), labelled([0, 1, 2], rng)
    rows = paid(parameterisation, real, counts)
    first = real.rows(torch.arange(3).repeat_interleave(rows + 1))
    assert encoded(parameterisation, first).numbers > budget(counts)


@every_pair
def test_images_are_ordered_by_class_and_every_branch_keeps_its_rows_class(rng, parameterisation):
    code, branches = encoded(parameterisation, labelled([0, 0, 2], rng)), parameterisation.branches
    assert code.counts.tolist() == [2 * branches, 0, branches]
    assert code.labels.tolist() == [0] * (2 * branches) + [2] * branches


@every_pair
def test_equal_seeds_give_equal_codes(rng, parameterisation):
    first = labelled([0, 0, 2], rng)
    one, other = (encoded(parameterisation, first, seed=5).parameters for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_branches_of_the_first_decoder_run_fastest():
    # rows 0 and 100; the first decoder adds 0 or 1, the second 0, 10 or 20
    parts = [Affine(by_branch=1.0, count=2), Affine(by_branch=10.0, count=3)]
    code = encoded(Parameterisation(Pixels(False), parts), constants([0, 100], [0, 1]))
    assert values(code) == [0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121]


def test_branches_are_the_product_of_those_of_all_decoders():
    parts = [Affine(count=2), Upsample(2), Affine(count=3)]
    assert Parameterisation(Pixels(False), parts).branches == 6
    assert Parameterisation(Pixels(False)).branches == 1


def test_decoders_know_the_class_of_each_row():
    # class 2 is moved by -2000 on the way in and by 2000 on the way out
    part = Parameterisation(Pixels(False), [Affine(by_class=1000.0)])
    code = encoded(part, constants([5, 7], [0, 2]))
    assert code.parameters["pixels"][:, 0, 0, 0].tolist() == [5, -1993]
    assert values(code) == [5, 7]


def test_images_are_encoded_from_the_last_decoder_to_the_first():
    # decoding doubles, then adds 3 for class 1: rows are (7 - 3) / 2, not 7 / 2 - 3
    parts = [Affine(factor=2.0), Affine(by_class=3.0)]
    code = encoded(Parameterisation(Pixels(False), parts), constants([4, 7], [0, 1]))
    assert code.parameters["pixels"][:, 0, 0, 0].tolist() == [2, 2]
    assert values(code) == [4, 7]


@pytest.mark.parametrize(
    ("chain", "shapes"),
    [
        ([], [(3, 9, 12)]),
        ([Hallucinators(2, 1)], [(3, 9, 12), (3, 9, 12)]),
        # halves are rounded up: 9 -> 5 -> 3, 12 -> 6 -> 3
        ([Upsample(2), Upsample(2)], [(3, 3, 3), (3, 5, 6), (3, 9, 12)]),
        ([Upsample(3), Hallucinators(2, 1)], [(3, 3, 4), (3, 9, 12), (3, 9, 12)]),
    ],
    ids=str,
)
def test_shapes_are_those_before_between_and_behind_the_decoders(chain, shapes):
    assert Parameterisation(Pixels(False), chain).shapes((3, 9, 12)) == shapes


def test_every_decoder_begins_with_the_shape_that_it_puts_out(rng):
    # 8 lines, of which the last takes 1 and the one before it 3 more than went in
    chain = [Upsample(2), Affine(lost=3), Affine(lost=1)]
    parameterisation = Parameterisation(Pixels(False), chain)
    assert parameterisation.shapes(SHAPE) == [(1, 2, 4), (1, 4, 8), (1, 7, 8), (1, 8, 8)]
    decoding = parameterisation.decoding(labelled([0], rng), 0)
    lines = {name: len(value) for name, value in decoding.items()}
    assert lines == {"1.unused.deep": 7, "2.unused.deep": 8}


def test_hallucinators_before_upsampling_are_small(rng):
    # maps within the convolutions are 2 smaller: of 8x8 behind, of 4x4 before
    chain = [Hallucinators(2, 1), Upsample(2), Hallucinators(3, 1)]
    decoding = Parameterisation(Pixels(False), chain).decoding(labelled([0], rng), 0)
    assert decoding["0.scale"].shape == (2, 1, 2, 2)
    assert decoding["2.scale"].shape == (3, 1, 6, 6)


def test_decoders_draw_from_streams_of_their_own(rng):
    real, twice = labelled([0], rng), [Hallucinators(2, 1), Hallucinators(2, 1)]
    decoding = Parameterisation(Pixels(False), twice).decoding(real, 0)
    other = Parameterisation(Pixels(False), twice).decoding(real, 1)
    assert not torch.equal(decoding["0.inner"], decoding["1.inner"])
    assert not torch.equal(decoding["0.inner"], other["0.inner"])


@pytest.mark.parametrize(
    ("parameterisation", "counts", "rows"),
    [
        (Parameterisation(Pixels(False)), [3, 0, 2], [3, 0, 2]),
        # 16 numbers a row instead of 64
        (Parameterisation(Pixels(False), [Upsample(2)]), [3, 0, 2], [12, 0, 8]),
        # 2 * (9 + 9 + 36 + 36) = 180 of 9 * 64 = 576: 6 * 396 // 576 and 3 * 396 // 576
        (Parameterisation(Pixels(False), [Hallucinators(2, 1)]), [6, 0, 3], [4, 0, 2]),
        # 576 - 180 - 4 * 16 = 332, 4 a row: 6 * 332 // 36 and 3 * 332 // 36
        (
            Parameterisation(LinearBases(4, 99), [Upsample(2), Hallucinators(2, 1)]),
            [6, 0, 3],
            [55, 0, 27],
        ),
        # 2 * (8 + 8) = 32 numbers a row
        (Parameterisation(LowRank(2)), [3, 0, 2], [6, 0, 4]),
    ],
    ids=str,
)
def test_a_class_gets_rows_by_its_share_of_what_decoders_leave(rng, parameterisation, counts, rows):
    assert paid(parameterisation, labelled([0], rng), torch.tensor(counts)).tolist() == rows


@pytest.mark.parametrize(
    ("parameterisation", "counts", "numbers", "taken", "least"),
    [
        # 180 of 128 numbers. Two classes of n images: 128 n - 180 >= 2 * 64 from n = 3 on.
        (Parameterisation(Pixels(False), [Hallucinators(2, 1)]), [1, 0, 1], 128, 180, 3),
        # the bases take 4 * 64 = 256: 128 n - 256 >= 2 * 4 from n = 3 on
        (Parameterisation(LinearBases(4, 8)), [2, 0, 2], 256, 0, 3),
        # 5 * (8 + 8) = 80 > 64 numbers a row: 64 n >= 80 from n = 2 on
        (Parameterisation(LowRank(5)), [1, 0, 0], 64, 0, 2),
    ],
    ids=str,
)
def test_images_that_do_not_pay_for_a_row_a_class_are_refused(
    rng, parameterisation, counts, numbers, taken, least
):
    real, most = labelled([0], rng), max(counts)
    message = (
        rf"^ipc must be >= {least} for this parameterisation, got {most}: of {numbers} numbers "
        rf"\({4 * numbers} bytes of float32\) decoders take {taken}, and the rest doesn't pay for "
        r"a row a class; allow more images, or take parameterisation=pixels$"
    )
    with pytest.raises(ValueError, match=message):
        paid(parameterisation, real, torch.tensor(counts))
    enough = torch.tensor(counts).sign() * least
    assert (paid(parameterisation, real, enough) > 0).equal(enough > 0)


@pytest.mark.parametrize(
    "parameterisation",
    # 640 numbers, of which a tenth is 64 less a share of 180; and 80 numbers a row
    [Parameterisation(Pixels(False), [Hallucinators(2, 1)]), Parameterisation(LowRank(5))],
    ids=str,
)
def test_a_class_of_too_few_real_images_is_named(rng, parameterisation):
    message = (
        r"^class 2 must have more real images for this parameterisation, got 1: however large "
        r"ipc, their share .* give the class more, or take parameterisation=pixels$"
    )
    real = labelled([0], rng)
    for ipc in (2, 9, 900):  # at 2, hallucinators leave class 0 without a row as well
        with pytest.raises(ValueError, match=message):
            paid(parameterisation, real, torch.tensor([ipc, 0, 1]))


def test_a_larger_ipc_is_asked_for_where_it_helps_a_class_of_few_images(rng):
    # bases take 256: 64 * (2 + 1) and 64 * (3 + 1) numbers leave none, 64 * (4 + 1) leave 64, of
    # which a fifth pays for 3 rows of 4
    parameterisation, real = Parameterisation(LinearBases(4, 8)), labelled([0], rng)
    with pytest.raises(ValueError, match=r"^ipc must be >= 4 for .*, got 2: of 192 numbers"):
        paid(parameterisation, real, torch.tensor([2, 0, 1]))
    assert paid(parameterisation, real, torch.tensor([4, 0, 1])).tolist() == [12, 0, 3]


def test_decoders_that_were_given_are_not_paid_for(rng):
    real, given = labelled([0, 1], rng), Affine(is_given=True)
    alone = Parameterisation(Pixels(False), [given])
    assert paid(alone, real, torch.tensor([2, 2, 0])).tolist() == [2, 2, 0]
    code = encoded(Parameterisation(Pixels(False), [given, Hallucinators(1, 1)]), real)
    # a hallucinator has 9 + 9 + 36 + 36 numbers
    assert (code.numbers, code.given_numbers) == (2 * 64 + 90, 8)
    assert not code.is_learned("0.unused.deep")
    assert set(code.learned) == {"pixels", "1.inner", "1.outer", "1.scale", "1.shift"}


def test_decoders_that_are_learned_are_paid_for(rng):
    parameterisation = Parameterisation(Pixels(False), [Affine()])
    # 8 of 2 * 64 numbers: one row, of two, is left
    assert paid(parameterisation, labelled([0], rng), torch.tensor([2, 0, 0])).tolist() == [1, 0, 0]
    code = encoded(parameterisation, labelled([0], rng))
    assert (code.numbers, code.given_numbers) == (72, 0)


@pytest.mark.parametrize(
    ("parameterisation", "is_plain"),
    [
        (Parameterisation(Pixels(True)), True),
        (Parameterisation(Pixels(True), [Upsample(2)]), False),
        (Parameterisation(LinearBases(1, 1)), False),
        (Parameterisation(LowRank(1)), False),
    ],
    ids=str,
)
def test_only_pixels_behind_no_decoder_are_plain(parameterisation, is_plain):
    assert parameterisation.is_plain is is_plain


def test_a_detached_code_has_neither_graph_nor_memory_in_common(rng):
    small = learned(Parameterisation(Pixels(False), [Hallucinators(2, 1)]), rng)
    code, before = small.code.detached(), small.images(torch.arange(6))
    assert not any(p.requires_grad for p in code.parameters.values())
    assert code.image_shape == SHAPE
    assert torch.equal(code.counts, small.code.counts)
    for parameter in code.parameters.values():
        parameter.zero_()
    assert torch.equal(small.images(torch.arange(6)), before)


@pytest.mark.parametrize("part", [Source, Decoder])
def test_a_part_cannot_be_made_without_its_verbs(part):
    with pytest.raises(TypeError, match="abstract"):
        part()
