r"""CutMix: a box of every image comes from another image, and so does that share of its target.

With a permutation :math:`\pi` of a batch, one box for all of it, and :math:`\lambda` the
share of the pixels that lie outside,

.. math:: \tilde x_i = x_{\pi(i)} \text{ in the box, } x_i \text{ elsewhere}, \qquad
    \tilde y_i = \lambda y_i + (1 - \lambda) y_{\pi(i)} .

The box has the image's proportions and an area drawn uniformly (:math:`\beta = 1`); its
centre is drawn uniformly too, and what sticks out is cut off.

References:
    | CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features
    | (Yun et al., ICCV 2019), https://arxiv.org/abs/1905.04899

Differences from the paper: none.
"""

import math

import torch
from torch import Tensor


def cutmix(images: Tensor, targets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns mixed images ``(N, C, H, W)`` and their mixed targets ``(N, num_classes)``.

    Args:
        images: ``(N, C, H, W)``.
        targets: Distributions, ``(N, num_classes)``.
        rng: Draws the partners and the box.
    """
    partner = torch.randperm(len(images), generator=rng)
    area, *centre = torch.rand(3, generator=rng).tolist()
    side = math.sqrt(area)
    rows, columns = (
        _span(length, middle, side) for length, middle in zip(images.shape[2:], centre, strict=True)
    )
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    inside = mixed[0, 0, rows, columns].numel() / mixed[0, 0].numel()
    return mixed, (1 - inside) * targets + inside * targets[partner]


def _span(length: int, middle: float, side: float) -> slice:
    half, centre = int(length * side) // 2, int(length * middle)
    return slice(max(centre - half, 0), min(centre + half, length))
