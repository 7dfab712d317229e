r"""Permuted images: all classes in every experience, their pixels in another order each time.

Experience e, counted from 0, sees the image x of P pixels as

.. math:: x'_p = x_{\pi_e(p)}, \qquad p = 1, \ldots, P,

where :math:`\pi_0` leaves all in place and every other :math:`\pi_e` is a permutation drawn once,
for training and test images and for all channels alike.

References:
    | An Empirical Investigation of Catastrophic Forgetting in Gradient-Based Neural Networks
      (Goodfellow, Mirza, Xiao, Courville and Bengio, 2013), https://arxiv.org/abs/1312.6211
    | Overcoming catastrophic forgetting in neural networks (Kirkpatrick et al., PNAS 2017),
      https://arxiv.org/abs/1612.00796

Differences from the papers: training images may be divided among the experiences, so that none
is seen twice; the papers show all of them each time, which ``divided=False`` does.
"""

from dataclasses import dataclass
from functools import partial
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.base import Experience, Stream, View, by_views, unchanged


@final
@dataclass(frozen=True)
class Permuted(Stream):
    """Each experience has all classes, and pixels in an order of its own.

    Attributes:
        experiences: Number of experiences, >= 1.
        divided: Whether each has a stratified share of the training images, or all of them.
    """

    experiences: int
    divided: bool

    def __post_init__(self) -> None:
        whole("stream.experiences", self.experiences, 1)

    @property
    def tells_tasks(self) -> bool:
        """No: all classes are answers, whatever the order of pixels."""
        return False

    def divide(self, train: LabelledImages, test: LabelledImages, seed: int) -> list[Experience]:
        """Returns the data in each order, drawn from the streams "permutation", index."""
        _, height, width = train.image_shape
        views: list[View] = [unchanged]
        for index in range(1, self.experiences):
            rng = derive(seed, "permutation", index)
            views.append(partial(permuted, order=torch.randperm(height * width, generator=rng)))
        return by_views(train, test, views, self.divided, seed)


def permuted(images: Tensor, order: Tensor) -> Tensor:
    """Returns images ``(N, C, H, W)`` whose pixel p is their pixel ``order[p]``, ``(H * W,)``."""
    return images.flatten(2)[:, :, order].view_as(images)
