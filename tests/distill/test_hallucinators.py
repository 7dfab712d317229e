"""Hallucinators agree with the paper's equation written as a loop over pixels."""

import pytest
import torch
from torch import Tensor

from distill.images import LabelledImages
from distill.parameterisations.base import Code, Parameterisation, Wanted
from distill.parameterisations.hallucinators import Hallucinators
from distill.parameterisations.pixels import Pixels

COLOUR = LabelledImages(torch.zeros(1, 3, 32, 32), torch.tensor([0]), 1)
MAPS = LabelledImages(torch.zeros(1, 2, 8, 8, dtype=torch.float64), torch.tensor([0]), 1)


def naive_image(parameters: dict[str, Tensor], row: Tensor, branch: int) -> Tensor:
    """x = W' * (s (W * b) + t), one pixel of the maps at a time."""
    inner, outer, scale, shift = (
        parameters[name][branch] for name in ("inner", "outer", "scale", "shift")
    )
    image = torch.zeros_like(row)
    for y in range(row.shape[1] - 2):
        for x in range(row.shape[2] - 2):
            seen = (inner * row[:, y : y + 3, x : x + 3]).sum((1, 2, 3))
            moved = scale[:, y, x] * seen + shift[:, y, x]
            image[:, y : y + 3, x : x + 3] += (outer * moved.view(-1, 1, 1, 1)).sum(0)
    return image


def random_parameters(rng: torch.Generator, inner: int = 4, count: int = 3) -> dict[str, Tensor]:
    """Of images of 2 channels and 5x6 pixels."""
    shapes = {"inner": (inner, 2, 3, 3), "outer": (inner, 2, 3, 3)}
    shapes |= {"scale": (inner, 3, 4), "shift": (inner, 3, 4)}
    return {
        name: torch.randn(count, *shape, generator=rng, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def decoded(parameters: dict[str, Tensor], rows: Tensor, branch: list[int]) -> Tensor:
    count, inner = parameters["inner"].shape[:2]
    wanted = Wanted(rows.shape[1:], torch.zeros(len(rows)).long(), torch.tensor(branch))
    return Hallucinators(count, inner).decode(parameters, rows, wanted)


@pytest.mark.parametrize("inner", [1, 4])
def test_decoding_agrees_with_a_loop_over_images_and_pixels(rng, inner):
    parameters = random_parameters(rng, inner)
    rows = torch.randn(5, 2, 5, 6, generator=rng, dtype=torch.float64)
    branch = [2, 0, 1, 0, 2]
    expected = [naive_image(parameters, r, b) for r, b in zip(rows, branch, strict=True)]
    ours = decoded(parameters, rows, branch)
    torch.testing.assert_close(ours, torch.stack(expected), rtol=1e-12, atol=1e-12)


def test_gradient_reaches_the_wanted_hallucinators_and_all_rows(rng):
    parameters = {name: p.requires_grad_() for name, p in random_parameters(rng).items()}
    rows = torch.randn(3, 2, 5, 6, generator=rng, dtype=torch.float64, requires_grad=True)
    decoded(parameters, rows, [2, 0, 2]).sum().backward()
    for parameter in parameters.values():
        reached = parameter.grad.flatten(1).abs().amax(1) > 0
        assert reached.tolist() == [True, False, True]
    assert (rows.grad.flatten(1).abs().amax(1) > 0).all()


def test_a_hallucinator_of_cifar10_has_as_many_numbers_as_the_paper_less_its_biases():
    # two kernels of 3 * 3 * 9 = 81, scale and shift of 3 * 30 * 30 = 2,700 each: 5,562. The
    # released code adds a bias to both convolutions, 3 + 3: 5,568; t_h stands for the first.
    code = Hallucinators(5, 3).begin(COLOUR, (3, 32, 32), 0)
    assert sum(p[0].numel() for p in code.values()) == 5_562
    assert sum(p.numel() for p in code.values()) == 27_810


@pytest.mark.parametrize(
    # 20 images are 61,440 numbers; 33,630 are left, 10 rows take 30,720; 100 images are
    # 307,200; 279,390 are left, 9 rows a class take 276,480
    ("ipc", "rows"),
    [(2, 1), (10, 9)],
)
def test_rows_on_cifar10_are_what_five_hallucinators_leave(ipc, rows):
    parameterisation = Parameterisation(Pixels(False), [Hallucinators(5, 3)])
    decoding = parameterisation.decoding(COLOUR, 0)
    paid = parameterisation.rows(
        Code(parameterisation, decoding, torch.full((10,), ipc), (3, 32, 32)), 0
    )
    assert paid.tolist() == [rows] * 10


def test_one_image_a_class_of_cifar10_does_not_pay_for_five_hallucinators():
    parameterisation = Parameterisation(Pixels(False), [Hallucinators(5, 3)])
    decoding = parameterisation.decoding(COLOUR, 0)
    message = "of 30720 numbers .* decoders take 27810, and"
    with pytest.raises(ValueError, match=message):
        parameterisation.rows(
            Code(parameterisation, decoding, torch.ones(10).long(), (3, 32, 32)), 0
        )


@pytest.mark.parametrize("inner", [2, 3, 5])
def test_hallucinators_start_around_the_identity_within_the_border(rng, inner):
    # the mean of 400 has noise of .1 / 20 = .005 in each of 2 * 18 * inner numbers
    parameters = Hallucinators(400, inner).begin(MAPS, (2, 8, 8), 0)
    mean = {name: p.mean(0, keepdim=True) for name, p in parameters.items()}
    rows = torch.randn(2, 2, 8, 8, generator=rng, dtype=torch.float64)
    gap = decoded(mean, rows, [0, 0]) - rows
    assert gap[..., 1:-1, 1:-1].abs().max() < 0.15


@pytest.mark.parametrize("real", [COLOUR, MAPS], ids=["colour", "two channels"])
def test_without_channels_between_they_are_those_of_the_images(real):
    channels = real.image_shape[0]
    ours, same = (
        Hallucinators(2, between).begin(real, real.image_shape, 0) for between in (None, channels)
    )
    assert ours["inner"].shape[:3] == (2, channels, channels)
    assert all(torch.equal(ours[name], same[name]) for name in same)


def test_every_channel_of_a_colour_image_starts_as_it_is(rng):
    parameters = Hallucinators(400, None).begin(COLOUR, (3, 32, 32), 0)
    mean = {name: p.mean(0, keepdim=True) for name, p in parameters.items()}
    row = torch.randn(1, 3, 32, 32, generator=rng)
    gap = (decoded(mean, row, [0]) - row)[..., 2:-2, 2:-2]
    assert gap.square().mean((0, 2, 3)).sqrt().max() < 0.1  # one that is lost has about 1


def test_the_noise_of_the_start_has_a_tenth_of_standard_deviation():
    parameters = Hallucinators(400, 2).begin(MAPS, (2, 8, 8), 0)
    for name in ("inner", "outer"):
        # 14,400 numbers: the estimate's own deviation is .1 / 170
        assert parameters[name].std(0).mean().item() == pytest.approx(0.1, abs=0.002)
    assert (parameters["scale"] == 1).all()
    assert (parameters["shift"] == 0).all()


def test_hallucinators_start_apart(rng):
    parameters = Hallucinators(3, 2).begin(MAPS, (2, 8, 8), 0)
    row = torch.randn(1, 2, 8, 8, generator=rng, dtype=torch.float64).expand(3, -1, -1, -1)
    one, two, three = decoded(parameters, row, [0, 1, 2])
    assert min((one - two).norm(), (two - three).norm(), (three - one).norm()) > 1


def test_the_start_is_that_of_the_seed():
    one, same, other = (Hallucinators(2, 1).begin(MAPS, (2, 8, 8), s) for s in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["inner"], other["inner"])
    assert not torch.equal(one["outer"], other["outer"])


def test_the_start_has_the_type_of_the_real_images():
    made = Hallucinators(2, 1).begin(MAPS, (2, 8, 8), 0)
    assert {p.dtype for p in made.values()} == {torch.float64}


def test_images_are_encoded_as_they_are(rng):
    images = torch.randn(2, 2, 8, 8, generator=rng)
    assert torch.equal(Hallucinators(2, 1).encode({}, images, torch.zeros(2).long()), images)
    assert Hallucinators(2, 1).row_shape((2, 8, 9)) == (2, 8, 9)


def test_every_hallucinator_is_a_branch_and_learned():
    assert Hallucinators(5, 3).branches == 5
    assert Hallucinators(5, 3).learned


@pytest.mark.parametrize(("count", "channels", "name"), [(0, 1, "count"), (1, 0, "channels")])
def test_less_than_one_is_refused(count, channels, name):
    with pytest.raises(ValueError, match=rf"^hallucinators {name} must be >= 1, got 0$"):
        Hallucinators(count, channels)
