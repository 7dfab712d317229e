r"""Generated: images are what a small frozen generator makes of latents (IT-GAN, GLaD).

A row is where the generator of :mod:`distill.generator` is entered: at ``layer`` 0 with a
latent :math:`z` and the row's class, :math:`x = g(z, y)`; at ``layer`` 1 with the first maps
:math:`h`, which the linear layer would have made of both. The generator's weights stay as
they are; gradients pass through them to the rows.

References:
    | Synthesizing Informative Training Samples with GAN (Zhao and Bilen, 2022)
    | https://arxiv.org/abs/2204.07513, for layer 0
    | Generalizing Dataset Distillation via Deep Generative Prior (Cazenavette et al., CVPR
    | 2023), https://arxiv.org/abs/2305.01649, for layer 1

Differences from both papers: the generator is the decoder of a variational autoencoder, of
some 28,000 numbers (class means among them), instead of a BigGAN or a StyleGAN-XL. Its images
are blurred. Rows start from real images.
Unless ``path`` names one, it is fitted to the very images that are distilled: no prior from
other data. The class means are added to its images at either layer.
Differences from IT-GAN: a latent starts from the encoder's answer to a real image, not from
an inversion by gradient steps; there are as many as the set's numbers pay for, not one for
every real image; the objective is whatever is chosen; no term keeps an image near the real
one that it started from.
Differences from GLaD: rows start from encoded real images, not from random latents; maps alone
are learned, without a style vector beside them; there are two places to enter, not every layer.

What is not paid for: the weights of the generator, and of the encoder, which only the start
needs, are given; ``Code.given_numbers`` counts them. A generator that was fitted here has
seen all real images, and whoever decodes the set needs it: a fair comparison by bytes adds
them, and a private one asks what it remembers, also for sets that start from noise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor

from distill.checks import whole
from distill.generator import (
    Generator,
    first_maps,
    fit_generator,
    images_of,
    latents,
    load_generator,
    maps_shape,
)
from distill.images import LabelledImages
from distill.parameterisations.base import Decoder, Parameters, Shape, Wanted
from distill.rng import derive

AT_ONCE = 500  # images, so that encoding and decoding many takes little memory


@final
@dataclass(frozen=True)
class Generated(Decoder):
    """Latents or first maps of a frozen generator.

    Attributes:
        layer: Where rows enter: 0 as latents (IT-GAN), 1 as first maps (GLaD).
        latent: Numbers of a latent, >= 1.
        maps: Channels of the first maps, >= 1.
        channels: Channels of each convolution, >= 1.
        steps: Steps in which the generator is fitted, >= 1.
        batch: Images a step, >= 1.
        learning_rate: Step size of fitting, > 0.
        path: A file that ``save_generator`` wrote, read instead of fitting; None: fit to the
            real images. Its images had to be normalised as those here.
    """

    layer: int
    latent: int
    maps: int
    channels: int
    steps: int
    batch: int
    learning_rate: float
    path: str | None = None

    def __post_init__(self) -> None:
        whole("generated layer", self.layer, 0)
        if self.layer > 1:
            raise ValueError(f"generated layer must be 0 or 1, got {self.layer}")
        _ = self.generator  # checks the rest

    @property
    def generator(self) -> Generator:
        """What is fitted, and how."""
        return Generator(
            self.latent, self.maps, self.channels, self.steps, self.batch, self.learning_rate
        )

    @property
    def branches(self) -> int:
        """One."""
        return 1

    @property
    def learned(self) -> bool:
        """The generator is given: the set neither changes it nor pays for it."""
        return False

    def row_shape(self, shape: Shape) -> Shape:
        """Returns (latent,) or the shape of the first maps."""
        return (self.latent,) if self.layer == 0 else maps_shape(self.maps, shape)

    def begin(self, real: LabelledImages, shape: Shape, seed: int) -> dict[str, Tensor]:
        """Returns the weights of generator and encoder, fitted or read.

        Raises:
            ValueError: If ``shape`` is not that of the real images, or the file is of another
                generator.
        """
        if tuple(shape) != real.image_shape:
            raise ValueError(
                f"generated images must have the shape of real ones, {real.image_shape}, "
                f"got {tuple(shape)}; put no decoder that resizes behind the generator"
            )
        if self.path is None:
            return fit_generator(self.generator, real, derive(seed, "generator"))
        weights = load_generator(Path(self.path), self.generator, shape, real.num_classes)
        return {name: value.to(real.images) for name, value in weights.items()}

    def encode(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
        """Returns the encoder's latents, or the first maps that the generator makes of them."""
        parts = zip(torch.split(images, AT_ONCE), torch.split(labels, AT_ONCE), strict=True)
        z = torch.cat([latents(parameters, *part) for part in parts])
        return z if self.layer == 0 else first_maps(parameters, z, labels, images.shape[1:])

    def decode(self, parameters: Parameters, rows: Tensor, wanted: Wanted) -> Tensor:
        """Returns what the generator makes of the rows."""
        if self.layer == 0:
            rows = first_maps(parameters, rows, wanted.labels, wanted.shape)
        parts = zip(torch.split(rows, AT_ONCE), torch.split(wanted.labels, AT_ONCE), strict=True)
        return torch.cat([images_of(parameters, *part, wanted.shape) for part in parts])
