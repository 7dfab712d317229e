r"""Rotated images: all classes in every experience, turned by another angle each time.

Experience e of E, counted from 0, sees images turned counterclockwise about their centre by

.. math:: \alpha_e = \frac{e}{E - 1} \alpha \quad \text{(evenly)}, \qquad
    \alpha_e \sim U\Big[\frac{e}{E} \alpha, \frac{e + 1}{E} \alpha\Big) \quad \text{(drawn)}

degrees, where :math:`\alpha` is the largest angle and :math:`U` uniform; training and test images
are turned alike.

Reference:
    | Gradient Episodic Memory for Continual Learning (GEM; Lopez-Paz and Ranzato, NeurIPS 2017)
    | https://arxiv.org/abs/1706.08840

Differences from the paper:
    - Between pixels values are bilinear; its released code takes the nearest pixel.
    - Corners that nothing turns into are black there. Here images are normalised, so they take
      the darkest value of each channel among the training images, which is black wherever
      one pixel is. Clamping to the edge would smear strokes that touch it, as the digits' do.
    - It draws 1,000 training images for each experience; here they are divided, or all are shown.
    - Evenly spaced angles, the first of them 0, are an addition.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import positive, whole
from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.base import Experience, Stream, by_views


@final
@dataclass(frozen=True)
class Rotated(Stream):
    r"""Each experience has all classes, turned by an angle of its own.

    Attributes:
        experiences: E, the number of experiences, >= 1.
        most: :math:`\alpha`, the largest angle, in degrees, > 0.
        drawn: Whether angles are drawn, each from its part of [0, most), or evenly spaced.
        divided: Whether each has a stratified share of the training images, or all of them.
    """

    experiences: int
    most: float
    drawn: bool
    divided: bool

    def __post_init__(self) -> None:
        whole("stream.experiences", self.experiences, 1)
        positive("stream.most", self.most)

    @property
    def tells_tasks(self) -> bool:
        """No: all classes are answers, whatever the angle."""
        return False

    def divide(self, train: LabelledImages, test: LabelledImages, seed: int) -> list[Experience]:
        """Returns the data at each angle."""
        black = train.images.amin((0, 2, 3)).view(-1, 1, 1)
        views = [partial(turned, degrees=d, fill=black) for d in self.angles(seed)]
        return by_views(train, test, views, self.divided, seed)

    def angles(self, seed: int) -> list[float]:
        """Returns the angle of each experience, counterclockwise, in degrees.

        What is drawn is drawn from the stream "angles" of ``seed``.
        """
        if self.drawn:
            u = torch.rand(self.experiences, generator=derive(seed, "angles"), dtype=torch.float64)
            places = (torch.arange(self.experiences) + u) / self.experiences
        else:
            places = torch.linspace(0, 1, self.experiences, dtype=torch.float64)
        return [self.most * place for place in places.tolist()]


def turned(images: Tensor, degrees: float, fill: Tensor) -> Tensor:
    """Returns images turned counterclockwise about their centre; those given are left as they are.

    Args:
        images: Normalised images, ``(N, C, H, W)``.
        degrees: By how much.
        fill: What is beyond their edges, ``(C, 1, 1)``.
    """
    if degrees == 0:
        return images
    angle, aspect = math.radians(degrees), images.shape[2] / images.shape[3]
    sine, cosine = math.sin(angle), math.cos(angle)
    # Where each pixel comes from, in halves of width and height; y points down.
    theta = images.new_tensor([[[cosine, -sine * aspect, 0], [sine / aspect, cosine, 0]]])
    grid = F.affine_grid(theta, [1, *images.shape[1:]], align_corners=False)
    around = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images - fill, around, align_corners=False) + fill
