"""Free pixels: every stored number is one pixel of one image.

References:
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021)
    | https://arxiv.org/abs/2006.05929

Differences from the paper: with ``clip`` the pixels stay inside what an 8-bit image can
hold, as in IDC (Kim et al., ICML 2022), so that storing a set as uint8 costs rounding only.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.images import Normalisation
from distill.parameterisations.base import Parameterisation, Parameters


@final
@dataclass(frozen=True)
class Pixels(Parameterisation):
    """Images as they are.

    Attributes:
        clip: Whether each step ends inside the range of real pixels.
    """

    clip: bool

    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Returns a copy of the images as the parameter ``pixels``."""
        return {"pixels": images.clone()}

    def decode(self, parameters: Parameters) -> Tensor:
        """Returns the pixels."""
        return parameters["pixels"]

    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Clips the pixels, where asked."""
        if self.clip:
            with torch.no_grad():
                parameters["pixels"].copy_(normalisation.clip(parameters["pixels"]))
