"""Shifts change a client's pixels by as much as they say, and by nobody else's draw."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from distill.images import LabelledImages, Normalisation
from fedcl.shift import Noise, Rotation, Unshifted, Views

CONFIGS = Path(__file__).parents[2] / "configs" / "shift"
PLAIN = Normalisation([0.0], [1.0])
KINDS = [Unshifted(), Noise(0.1), Rotation(2), Rotation(4)]


def images(count: int, channels: int = 1, side: int = 8) -> LabelledImages:
    pixels = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1))
    return LabelledImages(pixels, torch.zeros(count, dtype=torch.int64), 2)


def test_unshifted_images_are_those_given(rng):
    data = images(2)
    assert Unshifted().level(3, 4) == 0
    assert Unshifted().apply(data.images, 0.0, PLAIN, rng) is data.images


def test_noise_grows_from_client_to_client_up_to_sigma():
    # sigma k / K with k = 1 to 4: 0.2 / 4 = 0.05, and twice, three and four times that.
    levels = [Noise(0.2).level(client, 4) for client in range(4)]
    assert levels == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert Noise(0.2).level(0, 1) == 0.2


def test_noise_has_its_standard_deviation_on_pixels_in_0_1(rng):
    # Normalised pixels are (pixel - mean) / std, so noise of 0.1 on pixels is 0.1 / std here:
    # 0.2 and 0.5. 64,000 draws a channel: standard errors of the deviation 0.3 %, of the mean
    # 0.0008 and 0.002; five of each.
    before = images(1000, channels=2).images
    shifted = Noise(1.0).apply(before, 0.1, Normalisation([0.5, 0.4], [0.5, 0.2]), rng)
    noise = (shifted - before).transpose(0, 1).flatten(1)
    assert noise.std(1).tolist() == pytest.approx([0.2, 0.5], rel=0.015)
    assert noise.mean(1).abs().max() < 0.01


def test_noise_is_not_cut(rng):
    black = torch.zeros(100, 1, 8, 8)
    assert (Noise(1.0).apply(black, 0.1, PLAIN, rng) < 0).float().mean() > 0.4


def test_clients_take_turns_at_the_angles():
    assert [Rotation(4).level(client, 6) for client in range(6)] == [0, 90, 180, 270, 0, 90]
    assert [Rotation(2).level(client, 3) for client in range(3)] == [0, 180, 0]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (0.0, [[1, 2], [3, 4]]),
        (90.0, [[2, 4], [1, 3]]),
        (180.0, [[4, 3], [2, 1]]),
        (270.0, [[3, 1], [4, 2]]),
    ],
)
def test_rotation_turns_each_channel_counterclockwise(rng, level, expected):
    upright = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]).repeat(1, 2, 1, 1)
    turned = Rotation(4).apply(upright, level, PLAIN, rng)
    assert turned.tolist() == [[expected, expected]]
    assert turned.is_contiguous()


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_images_given_are_left_as_they_are(kind):
    data = images(3)
    before = data.images.clone()
    Views(kind, 2, PLAIN, 0).seen_by(1, data)
    assert data.images.equal(before)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_a_client_sees_depends_on_nobody_before_it(kind):
    views, data = Views(kind, 4, PLAIN, 7), images(3)
    alone = views.seen_by(1, data, "experience", 2)
    seen = [views.seen_by(client, data, "experience", 2) for client in range(4)]
    assert seen[1].images.equal(alone.images)


def test_noise_differs_among_clients_names_and_seeds():
    data = images(2)
    views = Views(Noise(0.1), 2, PLAIN, 0)
    noises = [
        (seen.images - data.images) / level
        for level, seen in [
            (0.05, views.seen_by(0, data)),
            (0.1, views.seen_by(1, data)),
            (0.1, views.seen_by(1, data, "test")),
            (0.1, replace(views, seed=1).seen_by(1, data)),
        ]
    ]
    for i, noise in enumerate(noises):
        assert all((noise - other).abs().max() > 1 for other in noises[:i])


def test_a_client_sees_by_its_own_level_and_keeps_its_labels():
    data = replace(images(3), labels=torch.tensor([0, 1, 0]))
    views = Views(Rotation(4), 4, PLAIN, 0)
    seen = views.seen_by(3, data)
    assert views.level(3) == 270
    assert seen.images.equal(data.images.transpose(2, 3).flip(3))
    assert (seen.labels.tolist(), seen.num_classes) == ([0, 1, 0], 2)


def test_half_turns_take_oblong_images_and_quarter_turns_refuse_them(rng):
    oblong = torch.zeros(1, 1, 8, 10)
    assert Rotation(2).apply(oblong, 180.0, PLAIN, rng).shape == oblong.shape
    with pytest.raises(ValueError, match=r"images must be square .* got 8x10; take shift.angles=2"):
        Rotation(4).apply(oblong, 90.0, PLAIN, rng)


@pytest.mark.parametrize("sigma", [0, -1, math.nan])
def test_sigma_must_be_positive(sigma):
    with pytest.raises(ValueError, match=f"shift.sigma must be > 0, got {sigma}"):
        Noise(sigma)


def test_angles_must_be_two_or_four():
    with pytest.raises(ValueError, match=r"shift.angles must be 2 or 4, got 3"):
        Rotation(3)
    with pytest.raises(TypeError, match=r"shift.angles must be a whole number, got 4.0"):
        Rotation(4.0)


@pytest.mark.parametrize(
    ("name", "kind"), [("none", Unshifted()), ("noise", Noise(0.1)), ("rotation", Rotation(4))]
)
def test_configs_build_their_shift_and_say_what_it_is(name, kind):
    text = (CONFIGS / f"{name}.yaml").read_text()
    assert text.startswith(f"# {name}: ")
    config = yaml.safe_load(text)
    assert config.pop("_target_") == f"fedcl.shift.{type(kind).__name__}"
    assert type(kind)(**config) == kind
