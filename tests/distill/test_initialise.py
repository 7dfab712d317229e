"""Distilling starts from encoded images of a condenser, as many as the numbers pay for."""

from dataclasses import dataclass, field
from typing import final

import pytest
import torch

from distill.condenser import Condenser, Task, condense
from distill.coresets import Herding, KMeans, Noise, Random
from distill.images import LabelledImages, Normalisation
from distill.initialise import first_code
from distill.parameterisations.base import Code, Decoder, Parameterisation, Shape
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.low_rank import LowRank
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample

HALF = Normalisation([0.5], [0.25])
FREE, RANDOM = Pixels(False), Random()


def task_of(counts: list[int], per_class: list[int], seed: int = 0) -> Task:
    """Even images in class order, of the value 10 * class + place: flat ones survive shrinking."""
    values = [10.0 * c + i for c, count in enumerate(per_class) for i in range(count)]
    labels = torch.arange(len(per_class)).repeat_interleave(torch.tensor(per_class))
    images = torch.tensor(values).double().view(-1, 1, 1, 1).expand(-1, 1, 8, 8).clone()
    real = LabelledImages(images, labels, len(per_class))
    return Task(real, torch.tensor(counts), HALF, seed)


def begun(task: Task, source=FREE, chain=(), start: Condenser = RANDOM) -> Code:
    return first_code(Parameterisation(source, chain), task, start)[0]


def values(code: Code) -> list[float]:
    return code.decode(torch.arange(len(code.labels)))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("start", [Random(), Herding(), KMeans(), Noise()], ids=str)
def test_pixels_start_from_what_the_condenser_makes(start):
    task = task_of([2, 0, 3], [4, 4, 4])
    code = begun(task, start=start)
    assert torch.equal(code.parameters["pixels"], condense(start, task).data.images)
    assert code.counts.tolist() == [2, 0, 3]


@pytest.mark.parametrize(("start", "origin"), [(Random(), "real"), (Noise(), "noise")], ids=str)
def test_the_origin_is_that_of_the_condenser(start, origin):
    assert first_code(Parameterisation(Pixels(False)), task_of([1], [4]), start)[1] == origin


def test_more_rows_than_images_are_asked_of_the_condenser_where_they_cost_less():
    # a row of a quarter of the numbers: 4 for one image, 8 for two
    code = begun(task_of([1, 0, 2], [9, 9, 9]), chain=[Upsample(2)])
    assert code.counts.tolist() == [4, 0, 8]
    assert len(set(values(code))) == 12
    assert [int(value) // 10 for value in values(code)] == [0] * 4 + [2] * 8


def test_start_images_are_taken_several_times_where_a_class_has_too_few():
    # classes of 3, 1 and 2 real images; 4, 8 and 4 rows
    code = begun(task_of([1, 2, 1], [3, 1, 2]), chain=[Upsample(2)], start=Herding())
    assert code.counts.tolist() == [4, 8, 4]
    first, only, last = values(code)[:4], values(code)[4:12], values(code)[12:]
    assert sorted(first[:3]) == [0, 1, 2]
    assert first[3] == first[0]
    assert only == [10.0] * 8
    assert sorted(last[:2]) == [20, 21]
    assert last[2:] == last[:2]


def test_fewer_rows_than_images_are_kept_where_decoders_take_numbers():
    # 180 of 9 * 64 numbers: 6 * 396 // 576 = 4, 3 * 396 // 576 = 2 rows, of two images each
    code = begun(task_of([6, 0, 3], [9, 9, 9]), chain=[Hallucinators(2, 1)])
    assert code.counts.tolist() == [8, 0, 4]
    assert len(code.parameters["pixels"]) == 6


@pytest.mark.parametrize(
    ("source", "chain"),
    # flat images are of rank one, each and all together
    [(LinearBases(2, 3), []), (LinearBases(9, 3), [Upsample(2)]), (LowRank(1), [])],
    ids=str,
)
def test_other_sources_start_from_the_same_images(source, chain):
    task = task_of([3, 3], [5, 5])
    code = begun(task, source, chain, Herding())
    rows = Parameterisation(source, chain).rows(
        Code(Parameterisation(source, chain), {}, task.counts, (1, 8, 8)), 0
    )
    chosen = Task(task.real, rows.clamp(max=5), HALF, 0)
    first = condense(Herding(), chosen).data.of_class(1)[:, 0, 0, 0]
    second = torch.tensor(values(code)).double()[code.labels == 1]
    assert len(second) == rows[1] >= 6
    torch.testing.assert_close(second[: len(first)], first, rtol=0, atol=1e-5)


def test_the_start_is_in_range_where_asked():
    # black is (0 - .5) / .25 = -2, white is 2
    task = task_of([20], [20])
    assert max(values(begun(task, Pixels(True)))) == 2.0
    assert max(values(begun(task, Pixels(False)))) == 19.0
    noise = begun(task, Pixels(True), start=Noise()).parameters["pixels"]
    assert (noise.min(), noise.max()) == (-2.0, 2.0)


def test_the_real_images_stay_as_they_were():
    task = task_of([20], [20])
    before = task.real.images.clone()
    begun(task, Pixels(True)).parameters["pixels"].zero_()
    assert torch.equal(task.real.images, before)


def test_equal_seeds_give_equal_codes_and_others_do_not():
    one, same, other = (
        begun(task_of([6, 6], [9, 9], seed), chain=[Hallucinators(2, 1)]) for seed in (1, 1, 2)
    )
    assert all(torch.equal(one.parameters[n], same.parameters[n]) for n in one.parameters)
    assert not torch.equal(one.parameters["0.inner"], other.parameters["0.inner"])
    assert not torch.equal(one.parameters["pixels"], other.parameters["pixels"])


def test_sources_draw_from_the_tasks_seed():
    # one row, so eight of nine bases are noise
    one, same, other = (
        begun(task_of([10], [1], seed), LinearBases(9, 1), start=Herding()).parameters["bases"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one[1:], other[1:])


def test_a_task_that_does_not_pay_for_a_row_a_class_is_refused():
    with pytest.raises(ValueError, match="ipc must be >= 3 for this parameterisation, got 1"):
        begun(task_of([1, 1], [5, 5]), chain=[Hallucinators(2, 1)])


@final
@dataclass(frozen=True)
class Given(Decoder):
    """Is given, at a price that shows."""

    fitted: list[Shape] = field(default_factory=list)

    @property
    def branches(self) -> int:
        return 1

    @property
    def learned(self) -> bool:
        return False

    def row_shape(self, shape):
        return shape

    def begin(self, real, shape, seed):
        self.fitted.append(shape)
        return {"weight": torch.ones(1)}

    def encode(self, parameters, images, labels):
        return images

    def decode(self, parameters, rows, wanted):
        return rows


def test_nothing_is_fitted_for_a_task_that_does_not_pay():
    given = Given()
    with pytest.raises(ValueError, match="ipc must be >= 3 for this parameterisation, got 1"):
        begun(task_of([1, 1], [5, 5]), chain=[given, Hallucinators(2, 1)])
    assert given.fitted == []
    code = begun(task_of([4, 4], [5, 5]), chain=[given, Hallucinators(2, 1)])
    assert given.fitted == [(1, 8, 8)]
    assert "0.weight" in code.parameters


@final
@dataclass(frozen=True)
class Doubled(Decoder):
    """Puts out rows twice as wide as they should be."""

    @property
    def branches(self) -> int:
        return 1

    @property
    def learned(self) -> bool:
        return True

    def row_shape(self, shape):
        return shape

    def begin(self, real, shape, seed):
        return {}

    def encode(self, parameters, images, labels):
        return images

    def decode(self, parameters, rows, wanted):
        return torch.cat([rows, rows], 3)


def test_decoders_that_do_not_put_out_the_images_are_refused():
    message = (
        r"^parameterisation must decode to images of shape \(1, 8, 8\), got \(1, 8, 16\); change"
    )
    with pytest.raises(ValueError, match=message):
        begun(task_of([1, 1], [5, 5]), chain=[Doubled()])
