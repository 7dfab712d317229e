"""Half resolution: four images at the bytes of one (IDC's multi-formation).

A row is an image at ``1 / factor`` of the resolution; bilinear interpolation brings it to
full size. IDC stores the ``factor ** 2`` small images as the tiles of one large one; the
numbers and the images are the same.

References:
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., ICML 2022)
    | https://arxiv.org/abs/2205.14959

Differences from the paper: none.
"""

from dataclasses import dataclass
from typing import final

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import whole
from distill.images import LabelledImages
from distill.parameterisations.base import Decoder, Parameters, Shape, Wanted


@final
@dataclass(frozen=True)
class Upsample(Decoder):
    """Bilinear interpolation to full size.

    Attributes:
        factor: How many times smaller a row is along each side, >= 2; 2 in IDC and RTP.
    """

    factor: int

    def __post_init__(self) -> None:
        whole("parameterisation factor", self.factor, 2)

    @property
    def branches(self) -> int:
        """One."""
        return 1

    @property
    def learned(self) -> bool:
        """It has no numbers."""
        return True

    def row_shape(self, shape: Shape) -> Shape:
        """Returns (C, H / factor, W / factor), rounded up."""
        channels, height, width = shape
        return channels, -(-height // self.factor), -(-width // self.factor)

    def begin(self, real: LabelledImages, shape: Shape, seed: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns no parameters."""
        return {}

    def encode(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Returns the images shrunk, each pixel the mean of those that it stands for."""
        _, height, width = self.row_shape(images.shape[1:])
        return F.adaptive_avg_pool2d(images, (height, width))

    def decode(self, parameters: Parameters, rows: Tensor, wanted: Wanted) -> Tensor:  # noqa: ARG002
        """Returns the rows at full size."""
        return F.interpolate(rows, list(wanted.shape[1:]), mode="bilinear", align_corners=False)
