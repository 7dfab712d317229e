r"""Bases: every image of every class is a mixture of a few bases that all of them share.

Image :math:`x_i` is kept as :math:`K` coefficients :math:`a_i` with
:math:`x_i \approx \sum_{k=1}^{K} a_{ik} b_k`. The bases :math:`b_k` are the first right singular
vectors of all the images that the memory keeps, so that no other :math:`K` bases come nearer
to them in the least squares. They take :math:`K \cdot CHW` numbers however many classes there
are; an image takes :math:`K`. All are in half precision.

References:
    | Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks
    | (Deng and Russakovsky, NeurIPS 2022), https://arxiv.org/abs/2206.02916
    | Condensed Composite Memory Continual Learning (Wiewel and Yang, IJCNN 2021)
    | https://arxiv.org/abs/2102.09890

Differences from the papers: their bases are learned by distilling
(``parameterisation=linear_bases`` does so); here they are computed again from what is kept
whenever a memory learns, so that every image is rounded again with them.
"""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store


@final
@dataclass(frozen=True)
class Bases(Store):
    """Images as mixtures of shared bases.

    Attributes:
        bases: K, >= 1.
    """

    bases: int

    def __post_init__(self) -> None:
        whole("storage.bases", self.bases, 1)

    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns two bytes a coefficient, and two a number of each basis."""
        return 2 * self.bases, 2 * self.bases * math.prod(image_shape)

    @property
    def numbers(self) -> str:
        """None: images alone."""
        return ""

    @property
    def lasting(self) -> bool:
        """No: the bases change with what the memory keeps."""
        return False

    def share(self, images: Tensor) -> Tensor:
        """Returns orthonormal bases, float16, ``(K, CHW)``; those that none needs are 0."""
        flat = images.flatten(1)
        right = torch.linalg.svd(flat, full_matrices=False)[2][: self.bases]
        spare = flat.new_zeros(self.bases - len(right), flat.shape[1])
        return torch.cat([right, spare]).half()

    def encode(self, images: Tensor, frame: Frame) -> Tensor:
        """Returns the coefficients of the nearest mixtures, float16, ``(n, K)``."""
        return (images.flatten(1) @ frame.shared.float().T).half()

    def decode(self, rows: Tensor, frame: Frame) -> Tensor:
        """Returns the mixtures."""
        return (rows.float() @ frame.shared.float()).view(-1, *frame.image_shape)
