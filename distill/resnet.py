r"""ResNet18 for small images, with instance normalisation.

A 3x3 convolution without stride, four stages of two residual blocks, of which stages 2 to 4
begin with stride 2, and the mean over the last maps. A block maps ``x`` to

.. math:: \mathrm{ReLU}\big(F(x) + S(x)\big),

where :math:`F` is a 3x3 convolution, normalisation, ReLU, a 3x3 convolution and
normalisation, and :math:`S` is the identity, or a 1x1 convolution and normalisation where
the number of maps changes. Convolutions have no bias; a normalisation has one affine group
per channel.

References:
    | Deep Residual Learning for Image Recognition (He, Zhang, Ren and Sun, CVPR 2016)
    | https://arxiv.org/abs/1512.03385
    | Dataset Condensation with Gradient Matching (Zhao, Mopuri and Bilen, ICLR 2021),
    | https://arxiv.org/abs/2006.05929, whose code fixes the sizes and the norm:
    | https://github.com/VICO-UoE/DatasetCondensation, networks.py

Differences from the paper: its ResNet18 has batch normalisation, and a 7x7 convolution and
a maximum at the entry; that code has neither, and on its 28x28 grey (which it does not pad
here) and 32x32 colour images this network is its own. It averages the last maps in 4x4
windows, which is the mean over all of them at those sizes alone. On sides of 8 pixels stage
2 has no stride, so that the last maps are 2x2: instance normalisation turns a 1x1 map into
a constant, and the images would no longer reach the logits.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from distill.checks import whole
from distill.instance_norm import InstanceNorm
from distill.networks import Architecture, ImageShape, Network


@final
@dataclass(frozen=True)
class ResNet18(Architecture):
    """ResNet18: 11,173,962 parameters at width 64 on colour, 11,172,810 on grey.

    Attributes:
        width: Channels of the first stage, >= 1; 64 in the literature. Each later stage
            has twice as many as the one before.
    """

    width: int

    def __post_init__(self) -> None:
        whole("network.width", self.width, 1)

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network.

        Raises:
            ValueError: If an image side is below 8 pixels.
        """
        channels, height, width = image_shape
        side = min(height, width)
        if side < 8:
            raise ValueError(
                f"image sides must be >= 8 pixels, got {height}x{width}; "
                "enlarge the images or take the MLP"
            )
        layers: list[nn.Module] = [nn.Conv2d(channels, self.width, 3, padding=1, bias=False)]
        layers += [InstanceNorm(self.width), nn.ReLU()]
        channels = self.width
        strides = (1, 2, 2, 2) if side > 8 else (1, 1, 2, 2)
        for stage, stride in enumerate(strides):
            planes = self.width * 2**stage
            layers += [Block(channels, planes, stride), Block(planes, planes, 1)]
            channels = planes
        embedding = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Network(embedding, channels, num_classes)


@final
class Block(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, channels: int, planes: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, planes, 3, stride, padding=1, bias=False),
            InstanceNorm(planes),
            nn.ReLU(),
            nn.Conv2d(planes, planes, 3, padding=1, bias=False),
            InstanceNorm(planes),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != planes:
            projection = nn.Conv2d(channels, planes, 1, stride, bias=False)
            self.shortcut = nn.Sequential(projection, InstanceNorm(planes))

    def forward(self, maps: Tensor) -> Tensor:
        """Returns maps ``(N, planes, H', W')`` for ``(N, channels, H, W)``.

        H' is H / stride, rounded up, and so is W'.
        """
        return torch.relu(self.body(maps) + self.shortcut(maps))
