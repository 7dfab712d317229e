r"""A small vision transformer (ViT): patches are the words of a sentence.

Each patch of :math:`P \times P` pixels becomes a token of ``width`` numbers by one linear
map. A class token, the same learned vector for every image, goes in front, and a learned
position is added to each token. ``depth`` pre-norm blocks follow:

.. math::
    z &\leftarrow z + \mathrm{Attention}(\mathrm{LN}(z)) \\
    z &\leftarrow z + W_2\, \mathrm{GELU}(W_1 \mathrm{LN}(z) + b_1) + b_2,

where the attention of each of the heads is :math:`\mathrm{softmax}(q k^T / \sqrt{d})\, v`
with :math:`d` = width / heads. The features are the class token after a last LN.

References:
    | An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale
    | (Dosovitskiy et al., ICLR 2021), https://arxiv.org/abs/2010.11929
    | DC-BENCH: Dataset Condensation Benchmark (Cui, Wang, Si and Hsieh, NeurIPS 2022),
    | whose code fixes the sizes for small images:
    | https://github.com/justincui03/dc_benchmark, networks/network_utils.py

Differences from the paper: no dropout; between :math:`W_1` and :math:`W_2` are ``width``
units, as in DC-BENCH, and not four times as many; images whose sides are no multiples of
P are padded by zeros, at the bottom and on the right. Attention is written with matrix
products, as torch's fused kernel for a CPU has no second derivative.
"""

from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor, nn

from distill.checks import whole
from distill.networks import Architecture, ImageShape, Network


@final
@dataclass(frozen=True)
class ViT(Architecture):
    """ViT: 9,532,938 parameters at patch 4, width 512, depth 6, 8 heads on 32x32 colour.

    Attributes:
        patch: Pixels along a side of a patch, >= 1; 4 in DC-BENCH.
        width: Numbers of a token, a multiple of ``heads``; 512 in DC-BENCH.
        depth: Blocks, >= 1; 6 in DC-BENCH.
        heads: Attention heads, >= 1; 8 in DC-BENCH.
    """

    patch: int
    width: int
    depth: int
    heads: int

    def __post_init__(self) -> None:
        whole("network.patch", self.patch, 1)
        whole("network.width", self.width, 1)
        whole("network.depth", self.depth, 1)
        whole("network.heads", self.heads, 1)
        if self.width % self.heads:
            nearest = self.width + -self.width % self.heads
            raise ValueError(
                f"network.width must be a multiple of network.heads, got {self.width} for "
                f"{self.heads} heads; take {nearest}"
            )

    def build(self, image_shape: ImageShape, num_classes: int) -> Network:
        """Returns the network, for images of any size."""
        layers: list[nn.Module] = [Tokens(image_shape, self.patch, self.width)]
        for _ in range(self.depth):
            norm, other_norm = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
            first, second = nn.Linear(self.width, self.width), nn.Linear(self.width, self.width)
            layers.append(Residual(norm, Attention(self.width, self.heads)))
            layers.append(Residual(other_norm, first, nn.GELU(), second))
        layers += [ClassToken(), nn.LayerNorm(self.width)]
        return Network(nn.Sequential(*layers), self.width, num_classes)


@final
class Tokens(nn.Module):
    """The class token and the patches of an image, each at its position."""

    def __init__(self, image_shape: ImageShape, patch: int, width: int) -> None:
        super().__init__()
        channels, *sides = image_shape
        bottom, right = (-side % patch for side in sides)
        patches = (sides[0] + bottom) // patch * ((sides[1] + right) // patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.whole_patches = nn.ZeroPad2d((0, right, 0, bottom))
        self.project = nn.Conv2d(channels, width, patch, stride=patch)
        self.positions = nn.Parameter(torch.empty(1, 1 + patches, width))
        nn.init.normal_(self.positions, std=0.02)  # Dosovitskiy et al., code

    def forward(self, images: Tensor) -> Tensor:
        """Returns the tokens ``(N, 1 + patches, width)`` of images ``(N, C, H, W)``."""
        patches = self.project(self.whole_patches(images)).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(len(images), -1, -1)
        return torch.cat([class_token, patches], dim=1) + self.positions


@final
class Attention(nn.Module):
    """Every token reads from all tokens of its image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.entry = nn.Linear(width, 3 * width)
        self.exit = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns what was read, in the shape of the tokens ``(N, T, width)``."""
        parts = self.entry(tokens).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind()  # each (N, heads, T, d)
        scores = query @ key.transpose(2, 3) * query.shape[3] ** -0.5
        read = (scores.softmax(dim=3) @ value).transpose(1, 2).flatten(2)
        return cast(Tensor, self.exit(read))


@final
class Residual(nn.Module):
    """Layers in sequence, and the way around them."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the tokens plus what the layers make of them."""
        return tokens + cast(Tensor, self.body(tokens))


@final
class ClassToken(nn.Module):
    """The first token alone."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns ``(N, width)`` for tokens ``(N, T, width)``."""
        return tokens[:, 0]
