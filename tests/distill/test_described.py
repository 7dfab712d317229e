"""A parameterisation comes back from plain values, and nothing else is ever built from them."""

import json
import sys

import pytest

from distill.parameterisations.base import Parameterisation
from distill.parameterisations.described import describe, rebuild
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.low_rank import LowRank
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample

ALL = [
    Parameterisation(Pixels(True), []),
    Parameterisation(Pixels(False), [Upsample(3)]),
    Parameterisation(LinearBases(16, 115), [Upsample(2), Hallucinators(5, 3)]),
    Parameterisation(LowRank(4), [Hallucinators(2, 1), Upsample(2)]),
]
BASE = "distill.parameterisations.base.Parameterisation"
PIXELS = {"type": "distill.parameterisations.pixels.Pixels", "clip": True}


def of(source: object = PIXELS, decoders: object = ()) -> dict[str, object]:
    return {"type": BASE, "source": source, "decoders": list(decoders)}


def test_a_description_names_types_and_fields():
    part = Parameterisation(Pixels(True), [Upsample(2)])
    upsample = {"type": "distill.parameterisations.upsample.Upsample", "factor": 2}
    assert describe(part) == of(PIXELS, [upsample])


@pytest.mark.parametrize("part", ALL, ids=str)
def test_what_was_described_comes_back_through_json(part):
    assert rebuild(json.loads(json.dumps(describe(part)))) == part


def test_decoders_in_a_tuple_are_described_as_those_in_a_list():
    one = Parameterisation(Pixels(True), (Upsample(2),))
    other = Parameterisation(Pixels(True), [Upsample(2)])
    assert describe(one) == describe(other)


@pytest.mark.parametrize(
    "name",
    [
        "torch.nn.Linear",
        "builtins.eval",
        "os.system",
        "distill.coresets.Random",
        "distill.parameterisations.Pixels",
        "distill.parameterisations_of_others.Pixels",
        "Pixels",
        "",
        None,
    ],
    ids=str,
)
@pytest.mark.parametrize("place", ["whole", "source", "decoder"])
def test_parts_from_elsewhere_are_refused(name, place):
    bad = {"type": name, "clip": True}
    described = {"whole": bad, "source": of(bad), "decoder": of(PIXELS, [bad])}[place]
    message = r"^parts of distill\.parameterisations alone can be described, got"
    with pytest.raises(ValueError, match=message):
        rebuild(described)


def test_what_names_no_type_is_refused():
    with pytest.raises(ValueError, match=r"alone can be described, got None$"):
        rebuild({"clip": True})


@pytest.mark.parametrize(
    "name",
    ["pixels.Normalisation", "pixels.dataclass", "pixels.math", "pixels.Nothing", "base.Code"],
)
def test_what_is_no_part_is_refused_though_its_file_is_here(name):
    name = f"distill.parameterisations.{name}"
    with pytest.raises(ValueError, match=rf"^unknown part '{name}' of a parameterisation$"):
        rebuild(of({"type": name}))


@pytest.mark.parametrize("name", ["nothing.Pixels", "pixels.torch.nn.Linear", ".pixels.Pixels"])
def test_a_file_that_is_not_here_is_refused(name):
    name = f"distill.parameterisations.{name}"
    with pytest.raises(ValueError, match=rf"^unknown part '{name}' of a parameterisation$"):
        rebuild(of({"type": name}))


def test_refusing_imports_nothing():
    assert "this" not in sys.modules
    with pytest.raises(ValueError, match="alone can be described"):
        rebuild(of({"type": "this.Pixels"}))
    assert "this" not in sys.modules


def test_a_source_alone_is_no_parameterisation():
    message = r"^a parameterisation must be described, got 'distill.*\.Pixels'$"
    with pytest.raises(ValueError, match=message):
        rebuild(PIXELS)


def test_fields_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"rank must be >= 1, got 0$"):
        rebuild(of({"type": "distill.parameterisations.low_rank.LowRank", "rank": 0}))
