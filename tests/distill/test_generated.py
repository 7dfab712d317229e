"""Rows enter the frozen generator at either layer, start near real images, and are stored."""

import dataclasses
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from distill.generator import fit_generator, save_generator
from distill.images import LabelledImages, Normalisation
from distill.parameterisations.base import Code, Parameterisation, Wanted
from distill.parameterisations.generated import AT_ONCE, Generated
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.linear_bases import LinearBases
from distill.parameterisations.pixels import Pixels
from distill.parameterisations.upsample import Upsample
from distill.rng import derive
from distill.synthetic import SyntheticSet

SMALL = Generated(layer=0, latent=3, maps=2, channels=4, steps=2, batch=5, learning_rate=0.003)
LAYERS = [SMALL, dataclasses.replace(SMALL, layer=1)]
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 9, 12)]
HALF = Normalisation([0.5], [0.25])


def images_like(shape: tuple[int, int, int], rng: torch.Generator) -> LabelledImages:
    images = torch.randn(12, *shape, generator=rng)
    return LabelledImages(images, torch.arange(12) // 3, 4)


def wanted(shape: tuple[int, ...], labels: torch.Tensor) -> Wanted:
    return Wanted(shape, labels, torch.zeros_like(labels))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("decoder", LAYERS)
def test_encoded_rows_have_the_row_shape_and_decode_to_images(rng, decoder, shape):
    real = images_like(shape, rng)
    weights = decoder.begin(real, shape, 0)
    rows = decoder.encode(weights, real.images, real.labels)
    assert rows.shape == (12, *decoder.row_shape(shape))
    assert decoder.decode(weights, rows, wanted(shape, real.labels)).shape == real.images.shape


def test_row_shapes():
    # 28 / 4 = 7; 9 / 4 and 12 / 4 round up to 3
    assert SMALL.row_shape((1, 28, 28)) == (3,)
    assert LAYERS[1].row_shape((1, 28, 28)) == (2, 7, 7)
    assert LAYERS[1].row_shape((3, 9, 12)) == (2, 3, 3)


def test_both_layers_start_from_the_same_images(rng):
    real = images_like((3, 9, 12), rng)
    weights = SMALL.begin(real, (3, 9, 12), 0)
    started = []
    for decoder in LAYERS:
        rows = decoder.encode(weights, real.images, real.labels)
        started.append(decoder.decode(weights, rows, wanted((3, 9, 12), real.labels)))
    assert torch.equal(*started)


@pytest.mark.parametrize("decoder", LAYERS)
def test_gradient_of_rows_is_that_of_finite_differences(rng, decoder):
    real = images_like((1, 8, 8), rng)
    weights = {k: v.double() for k, v in decoder.begin(real, (1, 8, 8), 0).items()}
    rows = decoder.encode(weights, real.images.double(), real.labels)[:2].requires_grad_()
    target = wanted((1, 8, 8), real.labels[:2])
    assert torch.autograd.gradcheck(lambda r: decoder.decode(weights, r, target), rows)


@pytest.mark.parametrize("decoder", LAYERS)
def test_gradient_reaches_rows_only(rng, decoder):
    real = images_like((1, 8, 8), rng)
    weights = decoder.begin(real, (1, 8, 8), 0)
    rows = decoder.encode(weights, real.images, real.labels).requires_grad_()
    decoder.decode(weights, rows, wanted((1, 8, 8), real.labels)).square().sum().backward()
    assert (rows.grad != 0).any(dim=tuple(range(1, rows.ndim))).all()
    assert all(value.grad is None for value in weights.values())


def test_many_rows_decode_as_each_does_alone(rng):
    real = images_like((1, 8, 8), rng)
    weights = SMALL.begin(real, (1, 8, 8), 0)
    rows = torch.randn(AT_ONCE + 3, 3, generator=rng)
    labels = torch.arange(len(rows)) % 4
    made = SMALL.decode(weights, rows, wanted((1, 8, 8), labels))
    last = SMALL.decode(weights, rows[-2:], wanted((1, 8, 8), labels[-2:]))
    torch.testing.assert_close(made[-2:], last)


def test_the_class_of_a_latent_decides_its_image(rng):
    real = images_like((1, 8, 8), rng)
    weights = SMALL.begin(real, (1, 8, 8), 0)
    made = SMALL.decode(weights, torch.zeros(2, 3), wanted((1, 8, 8), torch.tensor([0, 1])))
    assert not torch.allclose(made[0], made[1], atol=0.1)


def test_equal_seeds_give_equal_bytes_and_others_do_not(rng):
    real = images_like((1, 8, 8), rng)
    first, again, other = (SMALL.begin(real, (1, 8, 8), seed) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["generator.1.weight"], other["generator.1.weight"])


@pytest.fixture(scope="module")
def digits() -> LabelledImages:
    loaded = load_digits()
    pixels = torch.from_numpy(loaded.images).float().unsqueeze(1) / 16
    return LabelledImages((pixels - 0.3057) / 0.3761, torch.from_numpy(loaded.target).long(), 10)


def test_unseen_digits_come_back_nearer_than_their_class_means(digits):
    seen, unseen = digits.rows(torch.arange(1400)), digits.rows(torch.arange(1400, 1797))
    sizes = {"latent": 16, "maps": 8, "channels": 16, "batch": 32}
    fitted = dataclasses.replace(SMALL, **sizes, steps=150, learning_rate=0.01)
    weights = fitted.begin(seen, (1, 8, 8), 0)
    rows = fitted.encode(weights, unseen.images, unseen.labels)
    made = fitted.decode(weights, rows, wanted((1, 8, 8), unseen.labels))
    means = torch.stack([seen.of_class(label).mean(0) for label in range(10)])
    error = (made - unseen.images).square().mean()
    assert error < 0.8 * (means[unseen.labels] - unseen.images).square().mean()


def code_of(source, decoders, real: LabelledImages) -> Code:
    parameterisation = Parameterisation(source, decoders)
    code = parameterisation.encode(parameterisation.decoding(real, 0), real, 0)
    source.project_(code.parameters, HALF)
    return code


@pytest.mark.parametrize(("decoder", "rows"), zip(LAYERS, (42, 16), strict=True))
def test_rows_cost_fewer_numbers_than_pixels(rng, decoder, rows):
    # Two images a class are 128 numbers; a latent takes 3 of them, first maps 2 * 2 * 2.
    parameterisation = Parameterisation(Pixels(clip=False), [decoder])
    decoding = parameterisation.decoding(images_like((1, 8, 8), rng), 0)
    code = Code(parameterisation, decoding, torch.tensor([2, 2, 0, 2]), (1, 8, 8))
    assert parameterisation.rows(code, 0).tolist() == [rows, rows, 0, rows]


def test_the_generator_is_given_and_the_latents_are_paid_for(rng):
    code = code_of(Pixels(clip=False), [SMALL], images_like((1, 8, 8), rng))
    # Convolutions of 3x3 have 9 weights for each pair of channels, and each layer has a bias
    # for each output. Encoder: 1 to 4, 4 to 4, and 16 + 4 classes to 3.
    encoder = (9 * 4 + 4) + (9 * 16 + 4) + (20 * 3 + 3)
    # Generator: 3 + 4 classes to 2 maps of 2x2; 2 to 4, 4 to 4, 4 to 1.
    generator = (7 * 8 + 8) + (9 * 8 + 4) + (9 * 16 + 4) + (9 * 4 + 1)
    assert code.given_numbers == encoder + generator + 4 * 64  # and the mean of each class
    assert code.numbers == 12 * 3
    assert code.learned.keys() == {"pixels"}


def test_mixtures_of_as_many_bases_as_numbers_recall_every_latent(rng):
    real = images_like((1, 8, 8), rng)
    plain = code_of(Pixels(clip=False), [SMALL], real)
    mixed = code_of(LinearBases(bases=3, most=50), [SMALL], real)
    assert mixed.parameters["bases"].shape == (3, 3)
    every = torch.arange(12)
    torch.testing.assert_close(mixed.decode(every), plain.decode(every), atol=1e-4, rtol=1e-4)


def test_hallucinators_may_stand_behind_the_generator(rng):
    decoders = [SMALL, Hallucinators(count=2, channels=1)]
    code = code_of(Pixels(clip=False), decoders, images_like((1, 8, 8), rng))
    assert code.decode(torch.arange(24)).shape == (24, 1, 8, 8)


@pytest.mark.parametrize("source", [Pixels(clip=False), LinearBases(bases=2, most=50)])
@pytest.mark.parametrize("decoder", LAYERS)
def test_a_stored_set_decodes_to_the_same_images(rng, tmp_path, source, decoder):
    code = code_of(source, [decoder], images_like((1, 8, 8), rng))
    images = LabelledImages(code.decode(torch.arange(12)), code.labels, 4)
    small = SyntheticSet(images, HALF, "real", code)
    small.save(tmp_path / "set.safetensors", "float32")
    read = SyntheticSet.load(tmp_path / "set.safetensors")
    assert torch.equal(read.data.images, images.images)
    assert read.code.parameterisation == Parameterisation(source, [decoder])
    assert read.given_bytes == small.given_bytes > 0


def test_a_decoder_that_resizes_behind_the_generator_is_refused(rng):
    parameterisation = Parameterisation(Pixels(clip=False), [SMALL, Upsample(2)])
    with pytest.raises(ValueError, match=r"of real ones, \(1, 28, 28\), got \(1, 14, 14\); put no"):
        parameterisation.decoding(images_like((1, 28, 28), rng), 0)


@pytest.fixture
def saved(rng, tmp_path) -> Path:
    real = images_like((1, 8, 8), rng)
    weights = fit_generator(SMALL.generator, real, derive(7, "elsewhere"))
    save_generator(tmp_path / "g.safetensors", weights, SMALL.generator, (1, 8, 8), 4)
    return tmp_path / "g.safetensors"


def test_a_generator_that_is_passed_in_is_used_as_it_is(rng, saved):
    real = images_like((1, 8, 8), rng)
    passed = dataclasses.replace(SMALL, path=str(saved))
    weights, fitted = passed.begin(real, (1, 8, 8), 0), SMALL.begin(real, (1, 8, 8), 0)
    assert weights.keys() == fitted.keys()
    assert not torch.equal(weights["means"], fitted["means"])
    again = passed.begin(images_like((1, 8, 8), rng), (1, 8, 8), 1)
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_generator_whose_output_does_not_match_is_refused(rng, saved):
    passed = dataclasses.replace(SMALL, path=str(saved))
    with pytest.raises(ValueError, match=r"image_shape must be \[1, 28, 28\], got \[1, 8, 8\] in"):
        passed.begin(images_like((1, 28, 28), rng), (1, 28, 28), 0)


@pytest.mark.parametrize(("layer", "message"), [(2, "be 0 or 1, got 2"), (-1, "be >= 0, got -1")])
def test_other_layers_are_refused(layer, message):
    with pytest.raises(ValueError, match=f"generated layer must {message}"):
        dataclasses.replace(SMALL, layer=layer)


def test_what_the_generator_refuses_is_refused_at_once():
    with pytest.raises(ValueError, match="generator latent must be >= 1, got 0"):
        dataclasses.replace(SMALL, latent=0)
