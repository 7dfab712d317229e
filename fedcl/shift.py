r"""How clients see differently: shifts of features, whatever the partition of the classes.

With :math:`\sigma` the strongest noise and A the number of angles, of K clients

    noise:      client k, counted from 1, sees :math:`x + e`,
                :math:`e \sim \mathcal{N}(0, (\sigma k / K)^2)` for each pixel in [0, 1];
    rotation:   client k, counted from 0, sees x turned by :math:`(k \bmod A)\, 360 / A` degrees.

Images are shifted as networks see them, normalised, and not as uint8: bytes would round weak
noise away and cut off its negative half on a black background. What a client uploads as uint8
is cut to [0, 1] there, as all that it uploads is.

References:
    | Federated Learning on Non-IID Data Silos: An Experimental Study (Li, Diao, Chen and He,
      ICDE 2022), https://arxiv.org/abs/2102.02079 (NIID-Bench): noise
    | An Efficient Framework for Clustered Federated Learning (IFCA; Ghosh, Chung, Yin and
      Ramchandran, NeurIPS 2020), https://arxiv.org/abs/2006.04088: rotation

Differences from the papers:
    - Noise: the paper calls :math:`\sigma k / K` a variance. Its released code takes a
      standard deviation, :math:`\sigma (k - 1) / (K - 1)`, and draws anew whenever an image
      is read. Here it is the standard deviation, which a single client has too, and is drawn
      once, so that what a client trains on is what it could keep or upload.
    - Rotation: the clients of an angle are every A-th one; classes may be skewed, too.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor

from distill.checks import positive, whole
from distill.images import LabelledImages, Normalisation
from distill.rng import derive


class Shift(ABC):
    """A change of pixels that differs among clients. Subclasses are final frozen dataclasses."""

    @abstractmethod
    def level(self, client: int, clients: int) -> float:
        """Returns how far a client's images are shifted; equal levels are equal shifts.

        Args:
            client: Its number, in [0, clients).
            clients: Number of clients, >= 1.
        """

    @abstractmethod
    def apply(
        self, images: Tensor, level: float, normalisation: Normalisation, rng: torch.Generator
    ) -> Tensor:
        """Returns images shifted by a level; those given are left as they are.

        Args:
            images: Normalised images, ``(N, C, H, W)``.
            level: A client's.
            normalisation: Map between pixels in [0, 1] and normalised ones.
            rng: Draws what is random.

        Raises:
            ValueError: If the images cannot be shifted so.
        """


@final
@dataclass(frozen=True)
class Unshifted(Shift):
    """All clients see alike."""

    def level(self, client: int, clients: int) -> float:  # noqa: ARG002
        """Returns 0."""
        return 0.0

    def apply(
        self,
        images: Tensor,
        level: float,  # noqa: ARG002
        normalisation: Normalisation,  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """Returns the images themselves."""
        return images


@final
@dataclass(frozen=True)
class Noise(Shift):
    """Gaussian noise, the stronger the higher the client's number.

    Attributes:
        sigma: Standard deviation of the last client's noise, on pixels in [0, 1]; > 0.
    """

    sigma: float

    def __post_init__(self) -> None:
        positive("shift.sigma", self.sigma)

    def level(self, client: int, clients: int) -> float:
        """Returns the standard deviation of a client's noise, on pixels in [0, 1]."""
        return self.sigma * (client + 1) / clients

    def apply(
        self, images: Tensor, level: float, normalisation: Normalisation, rng: torch.Generator
    ) -> Tensor:
        """Returns the images with noise, which may leave [0, 1]."""
        noise = torch.randn(images.shape, generator=rng).to(images)
        return images + noise * (level / images.new_tensor(normalisation.std).view(-1, 1, 1))


@final
@dataclass(frozen=True)
class Rotation(Shift):
    """Quarter or half turns, which move pixels and change none.

    Attributes:
        angles: Evenly spaced angles that there are, 0 among them: 2 or 4.
    """

    angles: int

    def __post_init__(self) -> None:
        whole("shift.angles", self.angles, 2)
        if self.angles not in (2, 4):
            raise ValueError(f"shift.angles must be 2 or 4, got {self.angles}")

    def level(self, client: int, clients: int) -> float:  # noqa: ARG002
        """Returns the angle of a client's images, counterclockwise, in degrees."""
        return client % self.angles * 360 / self.angles

    def apply(
        self,
        images: Tensor,
        level: float,
        normalisation: Normalisation,  # noqa: ARG002
        rng: torch.Generator,  # noqa: ARG002
    ) -> Tensor:
        """Returns the images turned by ``level`` degrees, a multiple of 90.

        Raises:
            ValueError: If a quarter turn would change the shape of the images.
        """
        quarters, (height, width) = round(level / 90), images.shape[2:]
        if quarters % 2 and height != width:
            raise ValueError(
                f"images must be square for a quarter turn, got {height}x{width}; "
                "take shift.angles=2"
            )
        return images.rot90(quarters, (2, 3)).contiguous()


@final
@dataclass(frozen=True)
class Views:
    """How each client of a run sees images.

    Attributes:
        shift: What differs.
        clients: Number of clients.
        normalisation: Map between stored pixels and what networks see.
        seed: Names every random stream.
    """

    shift: Shift
    clients: int
    normalisation: Normalisation
    seed: int

    def level(self, client: int) -> float:
        """Returns a client's level; clients of one level see test images alike."""
        return self.shift.level(client, self.clients)

    def seen_by(self, client: int, data: LabelledImages, *names: str | int) -> LabelledImages:
        """Returns normalised images as a client sees them.

        Args:
            client: Its number, in [0, clients).
            data: The images as they are.
            names: Which of the client's images these are: they name its random stream.
        """
        rng = derive(self.seed, "shift", client, *names)
        images = self.shift.apply(data.images, self.level(client), self.normalisation, rng)
        return replace(data, images=images)
