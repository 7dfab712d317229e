"""A memory of decoded images stays in its bytes, whatever they are decoded from."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import final

import pytest
import torch

from distill.condenser import Condenser, State, Step, Task, condense
from distill.coresets import Random
from distill.images import LabelledImages, Normalisation
from distill.initialise import first_code, paid
from distill.parameterisations.base import Parameterisation
from distill.parameterisations.generated import Generated
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.synthetic import SyntheticSet
from fedcl.memory import Budget, Memory
from fedcl.stores.base import Store
from fedcl.stores.float32 import Float32
from fedcl.stores.jpeg import Jpeg
from fedcl.stores.uint8 import Uint8

NORMAL = Normalisation([0.5], [0.25])
SHAPE = (1, 8, 8)
TILES = Parameterisation(Pixels(clip=True), [Upsample(2)])


@final
@dataclass(frozen=True)
class Begun(Condenser):
    """Two steps, of nothing and to real images in some parameterisation, with even labels."""

    parameterisation: Parameterisation

    @property
    def makes_pixels(self) -> bool:
        return False

    def check(self, task: Task) -> None:
        paid(self.parameterisation, task)

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        code, origin = first_code(self.parameterisation, task, Random(), 0)
        images = code.decode(torch.arange(len(code.labels)))
        targets = torch.full((len(images), 4), 0.25)
        data = LabelledImages(images, code.labels, 4, targets)
        small = SyntheticSet(data, task.normalisation, origin, code, (0.1,))
        none = replace(code, parameters={k: 0 * v for k, v in code.parameters.items()})
        yield Step(1, 2, None, dict, lambda: replace(small, code=none))
        yield Step(2, 2, None, dict, lambda: small)


def experience(classes: list[int], each: int = 40) -> LabelledImages:
    rng = torch.Generator().manual_seed(sum(classes))
    labels = torch.tensor(classes).repeat_interleave(each)
    pixels = torch.randint(0, 256, (len(labels), *SHAPE), generator=rng, dtype=torch.uint8)
    return LabelledImages(NORMAL(pixels), labels, 4)


def memory(images: int, store: Store | None = None) -> Memory:
    budget = Budget(images, None, "fixed", Uint8() if store is None else store)
    return Memory.empty(budget, SHAPE, 4, NORMAL)


# Two classes have two images each, by hand: 4 x 65 = 260 bytes and 4 x 257 = 1,028. As many
# numbers, with a range of 8 for uint8 and 4 a class, take 256 + 8 + 8 = 272 and 1,024 + 8 = 1,032:
# 12 numbers and one too many. The others pay for 244 / 32 = 7 and 255 / 32 = 7 tiles of 16 a class.
FITS = [(Uint8(), 14 * 16 + 16, 260), (Float32(), 14 * 64 + 8, 1028)]


@pytest.mark.parametrize(("store", "taken", "most"), FITS, ids=str)
def test_a_set_takes_no_more_than_is_reserved_for_its_classes(store, taken, most):
    held = memory(8, store).learn(experience([0, 3]), Begun(TILES), 0)
    assert held.bytes == taken <= most
    assert held.data().counts.tolist() == [7, 0, 0, 7]
    assert len(held) == 14
    both = held.learn(experience([1, 2]), Begun(TILES), 1)
    assert both.bytes == both.peak == 2 * taken
    assert both.data().labels.tolist() == [0] * 7 + [1] * 7 + [2] * 7 + [3] * 7


@pytest.mark.parametrize("bases", [2, 7])
@pytest.mark.parametrize("images", [20, 28, 60])
def test_no_budget_is_exceeded(bases, images):
    method = Begun(Parameterisation(LinearBases(bases, 9)))
    held = memory(images).learn(experience([0, 3]), method, 0)
    held = held.learn(experience([1, 2]), method, 1)
    assert held.peak == held.bytes <= 65 * images


def test_what_is_replayed_is_what_the_numbers_decode_to_once_stored():
    real = experience([0, 3])
    held = memory(8).learn(real, Begun(TILES), 5)
    task = Task(real, torch.tensor([2, 0, 0, 2]), NORMAL, 5, withheld=12)
    expected = condense(Begun(TILES), task).stored("uint8")
    assert held.data().images.equal(expected.data.images)


def test_learned_labels_and_step_sizes_stay_behind():
    held = memory(8).learn(experience([0, 3]), Begun(TILES), 0)
    assert held.data().targets is None
    assert held.sets[0].rates == ()


def test_a_generator_that_decodes_a_set_is_counted():
    generator = Generated(0, latent=4, maps=1, channels=1, steps=1, batch=4, learning_rate=0.01)
    method = Begun(Parameterisation(Pixels(clip=False), [generator]))
    held = memory(400).learn(experience([0, 3]), method, 0)
    given = held.sets[0].given_bytes
    assert held.bytes == given + held.sets[0].storage_bytes("uint8") <= 200 * 65
    assert given > 8 * 65
    with pytest.raises(ValueError, match=rf"\d bytes, {given} of them a generator's, got 260$"):
        memory(8).learn(experience([0, 3]), method, 0)


def test_sets_come_back_from_a_state():
    held = memory(8).learn(experience([0, 3]), Begun(TILES), 0)
    back = memory(8).restored(held.state())
    assert back.data().images.equal(held.data().images)
    assert (back.bytes, back.seen.tolist()) == (240, [40, 0, 0, 40])
    assert (
        back.learn(experience([1, 2]), Begun(TILES), 1)
        .data()
        .images.equal(held.learn(experience([1, 2]), Begun(TILES), 1).data().images)
    )


def test_a_class_of_few_images_gets_no_more():
    held = memory(40).learn(experience([0, 3], each=2), Begun(TILES), 0)
    assert held.data().counts.tolist() == [8, 0, 0, 8]  # four tiles for each of two images


def test_a_class_that_comes_back_is_refused():
    held = memory(8).learn(experience([0, 3]), Begun(TILES), 0)
    with pytest.raises(ValueError, match=r"come once with a method .* got \[40, 0, 0, 40\] images"):
        held.learn(experience([1, 3]), Begun(TILES), 1)


def test_an_image_a_class_pays_for_tiles():
    # 2 x 65 = 130 bytes, of which counts and a range take 16: 114 / 32 = 3 tiles a class.
    held = memory(4).learn(experience([0, 3]), Begun(TILES), 0)
    assert (held.data().counts.tolist(), held.bytes) == ([3, 0, 0, 3], 6 * 16 + 16)


@pytest.mark.parametrize(("bases", "images"), [(7, 8), (2, 4)])
def test_bytes_that_hold_no_set_are_refused(bases, images):
    # As few as 7 bases, or 2 whose numbers pay for all of an image, so that 16 more do not fit.
    method = Begun(Parameterisation(LinearBases(bases, 9)))
    told = rf"has {images // 2 * 65} bytes for classes \[0, 3\]: ipc must be >= "
    for refuse in (
        lambda held: held.learn(experience([0, 3]), method, 0),
        lambda held: held.check(method, [experience([0, 3])]),
    ):
        with pytest.raises(ValueError, match=told):
            refuse(memory(images))


def test_an_experience_that_pays_for_no_set_is_refused_before_the_others():
    # Three images a class, 195 bytes: too few for 3 bases of 64 numbers, counts and a range.
    method = Begun(Parameterisation(LinearBases(3, 9)))
    whole = [experience([0, 1, 2]), experience([3])]
    memory(12).check(method, whole[:1])
    with pytest.raises(ValueError, match=r"has 195 bytes for classes \[3\]: ipc must be >= "):
        memory(12).check(method, whole)


@final
@dataclass(frozen=True)
class Refusing(Condenser):
    """A method that takes no task, whatever the bytes."""

    @property
    def makes_pixels(self) -> bool:
        return False

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:
        raise ValueError("no task is good enough")
        yield


def test_what_has_nothing_to_do_with_bytes_is_told_as_it_is():
    with pytest.raises(ValueError, match=r"^no task is good enough$"):
        memory(8).learn(experience([0, 3]), Refusing(), 0)


def test_what_would_exchange_single_images_is_refused():
    fixed = Budget(8, None, "fixed", Uint8())
    fixed.check_method(Begun(TILES))
    for other in ({"allocation": "adaptive"}, {"staged": 5}, {"store": Jpeg(9)}):
        changed = replace(fixed, **other)
        changed.check_method(Random())
        with pytest.raises(ValueError, match=r"must get buffer.allocation=fixed, .* got "):
            changed.check_method(Begun(TILES))
