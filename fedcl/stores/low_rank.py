r"""Low rank: each channel of an image is kept as the product of two thin matrices.

Channel :math:`X \in \mathbb{R}^{H \times W}` with singular value decomposition
:math:`X = U \Sigma V^\top` is kept as :math:`A = U_r \Sigma_r^{1/2}` and
:math:`B = \Sigma_r^{1/2} V_r^\top`, its first :math:`r` singular values; the product
:math:`AB` is the nearest matrix of rank :math:`r`, at squared distance
:math:`\sum_{k > r} \sigma_k^2`. It takes :math:`r (H + W)` numbers, in half precision.

References:
    | An Efficient Dataset Condensation Plugin and Its Application to Continual Learning
    | (Yang et al., NeurIPS 2023)
    | The approximation of one matrix by another of lower rank (Eckart and Young, 1936)

Differences from the paper: its factors are learned by distilling (``parameterisation=low_rank``
does so); here any image is kept so, once it has been made or chosen.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.networks import ImageShape
from fedcl.stores.base import Frame, Store


@final
@dataclass(frozen=True)
class LowRank(Store):
    """Images as products of thin matrices.

    Attributes:
        rank: r, >= 1.
    """

    rank: int

    def __post_init__(self) -> None:
        whole("storage.rank", self.rank, 1)

    def sizes(self, image_shape: ImageShape) -> tuple[int, int]:
        """Returns two bytes a number of both factors in each channel, and 0.

        Raises:
            ValueError: If the rank exceeds a side.
        """
        channels, height, width = image_shape
        if self.rank > min(height, width):
            raise ValueError(
                f"storage.rank must be <= {min(height, width)} for images of {height}x{width}, "
                f"got {self.rank}"
            )
        return 2 * channels * self.rank * (height + width), 0

    @property
    def numbers(self) -> str:
        """None: images alone."""
        return ""

    def share(self, images: Tensor) -> Tensor:
        """Returns nothing."""
        return images.new_zeros(0)

    def encode(self, images: Tensor, frame: Frame) -> Tensor:  # noqa: ARG002
        """Returns both factors side by side, float16, ``(n, C, r, H + W)``."""
        left, values, right = torch.linalg.svd(images, full_matrices=False)
        root = values[..., : self.rank].sqrt().unsqueeze(-1)
        thin = left.mT[..., : self.rank, :], right[..., : self.rank, :]
        return torch.cat([root * factor for factor in thin], -1).half()

    def decode(self, rows: Tensor, frame: Frame) -> Tensor:
        """Returns the products."""
        height = frame.image_shape[1]
        factors = rows.float()
        return factors[..., :height].mT @ factors[..., height:]
