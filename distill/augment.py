r"""Differentiable siamese augmentation (DSA): one drawn transform for real and synthetic images.

A draw picks one family :math:`a` uniformly and its strengths :math:`w`; the same
:math:`A_w` is then applied to a real and to a synthetic batch. Strengths are values, so a
draw can be applied again, to any batch, and gradients flow through it to the images.

References:
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, ICML 2021)
    | https://arxiv.org/abs/2102.08259

Differences from the paper: none in law. Its code shares draws by reseeding the global
generator from the clock; here a draw is a value from an explicit generator.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import listed, one_of

# Strengths of the released code (ParamDiffAug in utils.py of VICO-UoE/DatasetCondensation).
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, SCALE, ROTATION = 0.125, 0.5, 1.2, 15.0

Values = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class Draw:
    """A transform as values.

    Attributes:
        family: Name of the family.
        values: Strengths, each ``(n,)`` for n images or ``(1,)`` for a batch of any size.
    """

    family: str
    values: Values

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the transformed images, ``(N, C, H, W)``; differentiable."""
        return FAMILIES[self.family].apply(images, self.values)


def each(draws: Sequence[Draw], groups: Tensor, images: Tensor) -> Tensor:
    """Returns images of several groups, each group transformed by its own draw; differentiable.

    Groups that drew one family are transformed at once, so that many cost little more than few.

    Args:
        draws: For a batch of any size, one for each group.
        groups: For each image its group, int64 in [0, len(draws)), ``(N,)``.
        images: ``(N, C, H, W)``.
    """
    names = [draw.family for draw in draws]
    parts, places = [], []
    for family in sorted(set(names)):
        members = [group for group, name in enumerate(names) if name == family]
        row = torch.full((len(draws),), -1)
        row[members] = torch.arange(len(members))
        row = row.to(groups.device)[groups]
        place = (row >= 0).nonzero().flatten()
        values = {
            name: torch.cat([draws[group].values[name] for group in members])[row[place].cpu()]
            for name in draws[members[0]].values
        }
        parts.append(Draw(family, values)(images.index_select(0, place)))
        places.append(place)
    return torch.cat(parts).index_select(0, torch.cat(places).argsort())


@final
@dataclass(frozen=True)
class Augmentation:
    """The families among which a draw picks.

    Attributes:
        families: Names out of color, crop, cutout, flip, scale, rotate; none: no change.
        mirror: Whether a mirrored image keeps its class; if not, flip is left out.
    """

    families: Sequence[str]
    mirror: bool

    def __post_init__(self) -> None:
        listed("augmentation.families", self.families)
        for family in self.families:
            one_of("augmentation family", family, FAMILIES)

    def draw(self, count: int, image_size: tuple[int, int], rng: torch.Generator) -> Draw:
        """Returns one family with strengths for ``count`` images of ``image_size`` (H, W)."""
        families = [name for name in self.families if name != "flip" or self.mirror]
        if not families:
            return Draw("none", {})
        family = families[int(torch.randint(len(families), (1,), generator=rng))]
        return Draw(family, FAMILIES[family].draw(count, image_size, rng))


@final
@dataclass(frozen=True)
class Family:
    """How a family draws its strengths and how it applies them."""

    draw: Callable[[int, tuple[int, int], torch.Generator], Values]
    apply: Callable[[Tensor, Values], Tensor]


def _draw_nothing(_count: int, _size: tuple[int, int], _rng: torch.Generator) -> Values:
    return {}


def _unchanged(images: Tensor, _values: Values) -> Tensor:
    return images


def _draw_color(count: int, _size: tuple[int, int], rng: torch.Generator) -> Values:
    u = torch.rand(3, count, generator=rng)
    return {
        "brightness": (u[0] - 0.5) * BRIGHTNESS,
        "saturation": u[1] * SATURATION,
        "contrast": u[2] + CONTRAST,
    }


def _color(images: Tensor, values: Values) -> Tensor:
    brightness, saturation, contrast = (
        values[name].to(images).view(-1, 1, 1, 1)
        for name in ("brightness", "saturation", "contrast")
    )
    images = images + brightness
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * saturation + grey
    level = images.mean((1, 2, 3), keepdim=True)
    return (images - level) * contrast + level


def _draw_crop(count: int, size: tuple[int, int], rng: torch.Generator) -> Values:
    return {
        axis: torch.randint(-reach, reach + 1, (count,), generator=rng)
        for axis, reach in (("down", _part(size[0], CROP)), ("right", _part(size[1], CROP)))
    }


def _crop(images: Tensor, values: Values) -> Tensor:
    height, width = images.shape[2:]
    rows = torch.arange(height) + values["down"].view(-1, 1)
    columns = torch.arange(width) + values["right"].view(-1, 1)
    inside = _within(rows, height).unsqueeze(2) & _within(columns, width).unsqueeze(1)
    rows = rows.clamp(0, height - 1).to(images.device)
    columns = columns.clamp(0, width - 1).to(images.device)
    if len(rows) == 1:
        moved = images[:, :, rows[0]][..., columns[0]]
    else:
        batch = torch.arange(len(images), device=images.device).view(-1, 1, 1)
        moved = images.permute(0, 2, 3, 1)[batch, rows.unsqueeze(2), columns.unsqueeze(1)]
        moved = moved.permute(0, 3, 1, 2)
    return moved * inside.unsqueeze(1).to(images)


def _draw_cutout(count: int, size: tuple[int, int], rng: torch.Generator) -> Values:
    centres = {}
    for axis, side in (("row", size[0]), ("column", size[1])):
        last = side + 1 - _part(side, CUTOUT) % 2
        centres[axis] = torch.randint(last, (count,), generator=rng)
    return centres


def _cutout(images: Tensor, values: Values) -> Tensor:
    height, width = images.shape[2:]
    rows = _cut(values["row"], height).unsqueeze(2)
    columns = _cut(values["column"], width).unsqueeze(1)
    return images * ~(rows & columns).unsqueeze(1).to(images.device)


def _draw_flip(count: int, _size: tuple[int, int], rng: torch.Generator) -> Values:
    return {"mirrored": torch.rand(count, generator=rng) < 0.5}


def _flip(images: Tensor, values: Values) -> Tensor:
    mirrored = values["mirrored"].to(images.device).view(-1, 1, 1, 1)
    return torch.where(mirrored, images.flip(3), images)


def _draw_scale(count: int, _size: tuple[int, int], rng: torch.Generator) -> Values:
    u = torch.rand(2, count, generator=rng)
    factors = u * (SCALE - 1 / SCALE) + 1 / SCALE
    return {"across": factors[0], "down": factors[1]}


def _scale(images: Tensor, values: Values) -> Tensor:
    zero = torch.zeros_like(values["across"])
    return _affine(images, [values["across"], zero, zero, values["down"]])


def _draw_rotate(count: int, _size: tuple[int, int], rng: torch.Generator) -> Values:
    u = torch.rand(count, generator=rng)
    return {"angle": (u - 0.5) * 2 * ROTATION * math.pi / 180}


def _rotate(images: Tensor, values: Values) -> Tensor:
    cosine, sine = values["angle"].cos(), values["angle"].sin()
    return _affine(images, [cosine, -sine, sine, cosine])


def _affine(images: Tensor, entries: Sequence[Tensor]) -> Tensor:
    matrix = torch.stack(list(entries), 1).view(-1, 2, 2).to(images)
    theta = torch.cat([matrix, matrix.new_zeros(len(matrix), 2, 1)], 2)
    theta = theta.expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _part(side: int, share: float) -> int:
    return int(side * share + 0.5)


def _within(index: Tensor, side: int) -> Tensor:
    return (index >= 0) & (index < side)


def _cut(centre: Tensor, side: int) -> Tensor:
    half = _part(side, CUTOUT)
    first = centre.view(-1, 1) - half // 2
    pixel = torch.arange(side)
    return (pixel >= first) & (pixel < first + half)


FAMILIES = {
    "none": Family(_draw_nothing, _unchanged),
    "color": Family(_draw_color, _color),
    "crop": Family(_draw_crop, _crop),
    "cutout": Family(_draw_cutout, _cutout),
    "flip": Family(_draw_flip, _flip),
    "scale": Family(_draw_scale, _scale),
    "rotate": Family(_draw_rotate, _rotate),
}
