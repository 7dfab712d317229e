"""The seam between stored numbers and images."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from distill.images import Normalisation

Parameters = Mapping[str, Tensor]


class Parameterisation(ABC):
    """Decodes stored numbers to images. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def encode(self, images: Tensor) -> dict[str, Tensor]:
        """Returns parameters that decode to normalised ``images`` ``(N, C, H, W)``."""

    @abstractmethod
    def decode(self, parameters: Parameters) -> Tensor:
        """Returns the normalised images ``(N, C, H, W)``; differentiable."""

    @abstractmethod
    def project_(self, parameters: Parameters, normalisation: Normalisation) -> None:
        """Moves ``parameters`` into the allowed set, in place, after an optimiser step."""
