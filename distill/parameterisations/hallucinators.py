r"""Hallucinators (HaBa): a few small networks that make several images of every stored one.

Branch :math:`h` maps a row :math:`b` to

.. math:: x = W'_h * (s_h \odot (W_h * b) + t_h)

with 3x3 convolutions :math:`W_h`, and :math:`W'_h` transposed, and maps :math:`s_h`,
:math:`t_h` of scale and shift. All classes share the :math:`H` hallucinators, so a set of
:math:`n` rows decodes to :math:`H n` images.

References:
    | Dataset Distillation via Factorization (Liu et al., NeurIPS 2022)
    | https://arxiv.org/abs/2210.16774

Differences from the paper: every row meets every hallucinator when the set is decoded (the
released code draws one a batch); the numbers of the hallucinators are paid for by the set,
so it holds fewer rows. A hallucinator starts as the identity plus noise. Its convolutions
have no biases, as in the equation; the released code's have, of which :math:`t_h` contains
the first: 5,562 numbers instead of 5,568 for three channels of 32x32. What keeps the branches
apart is not theirs: objectives/adversary.py.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import whole
from distill.images import LabelledImages
from distill.parameterisations.base import Decoder, Parameters, Shape, Wanted
from distill.rng import derive

NOISE = 0.1  # standard deviation added to the identity at the start, so that branches differ


@final
@dataclass(frozen=True)
class Hallucinators(Decoder):
    """H branches of two convolutions with an affine map between.

    Attributes:
        count: H, the hallucinators, >= 1; 5 in HaBa.
        channels: Channels between the convolutions, >= 1; None: those of the images, as in
            HaBa, for with fewer it starts as the identity on the first channels alone.
    """

    count: int
    channels: int | None

    def __post_init__(self) -> None:
        whole("hallucinators count", self.count, 1)
        if self.channels is not None:
            whole("hallucinators channels", self.channels, 1)

    @property
    def branches(self) -> int:
        """The hallucinators."""
        return self.count

    @property
    def learned(self) -> bool:
        """They are learned with the set."""
        return True

    def row_shape(self, shape: Shape) -> Shape:
        """Returns the same shape."""
        return shape

    def begin(self, real: LabelledImages, shape: Shape, seed: int) -> dict[str, Tensor]:
        """Returns hallucinators near the identity."""
        rng, (channels, height, width) = derive(seed, "hallucinators"), shape
        between = self.channels or channels
        identity = torch.zeros(between, channels, 3, 3)
        for inner in range(between):
            identity[inner, inner % channels, 1, 1] = 1.0
        copies = identity[..., 1, 1].sum(0).clamp(min=1).view(1, -1, 1, 1)
        maps = (self.count, between, height - 2, width - 2)
        kernels = (self.count, *identity.shape)
        made = {
            "inner": identity + torch.randn(kernels, generator=rng) * NOISE,
            "outer": identity / copies + torch.randn(kernels, generator=rng) * NOISE,
            "scale": torch.ones(maps),
            "shift": torch.zeros(maps),
        }
        return {name: value.to(real.images) for name, value in made.items()}

    def encode(self, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:  # noqa: ARG002
        """Returns the images themselves: the hallucinators start near the identity."""
        return images

    def decode(self, parameters: Parameters, rows: Tensor, wanted: Wanted) -> Tensor:
        """Returns what each row's hallucinator makes of it."""
        images = rows.new_zeros(rows.shape)
        for branch in sorted(set(wanted.branch.tolist())):
            chosen = (wanted.branch == branch).nonzero().flatten().to(rows.device)
            maps = F.conv2d(rows[chosen], parameters["inner"][branch])
            maps = maps * parameters["scale"][branch] + parameters["shift"][branch]
            made = F.conv_transpose2d(maps, parameters["outer"][branch])
            images = images.index_copy(0, chosen, made)
        return images
