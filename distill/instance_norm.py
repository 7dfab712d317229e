r"""Instance normalisation whose second derivative is written down.

Each map :math:`x` of :math:`m` pixels is normalised by its own mean :math:`\mu` and standard
deviation, :math:`y = \gamma \hat{x} + \beta` with :math:`\hat{x} = r (x - \mu)`,
:math:`r = (\sigma^2 + \epsilon)^{-1/2}`. With :math:`\langle \cdot \rangle` a map's mean and
:math:`P u = u - \langle u \rangle - \hat{x} \langle u \hat{x} \rangle`, a gradient :math:`g` by
:math:`y` becomes

.. math:: \nabla_x = r \gamma P g, \qquad \nabla_\gamma = \sum g \hat{x}, \qquad
    \nabla_\beta = \sum g .

Let :math:`u, s, t` be the gradients by these three, and :math:`k = r \langle g \, P u \rangle`.
Then the gradients by :math:`g`, :math:`\gamma` and :math:`x` are

.. math:: r \gamma P u + s \hat{x} + t, \qquad \sum k, \qquad
    r \big( P(a g + b u) - \gamma k \hat{x} \big), \quad
    a = s - r \gamma \langle u \hat{x} \rangle, \; b = -r \gamma \langle g \hat{x} \rangle .

Each is a sum of maps with one factor a map. Torch differentiates its own backward pass operation
by operation instead, and keeps what each leaves: a third more memory for a pullback.

References:
    | Instance Normalization: The Missing Ingredient for Fast Stylization (Ulyanov, Vedaldi and
    | Lempitsky, 2016), https://arxiv.org/abs/1607.08022
"""

from collections.abc import Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

EPSILON = 1e-5


@final
class InstanceNorm(nn.Module):
    """Normalises every map of every image; a scale and a shift a channel.

    Attributes:
        weight: The scales, ``(C,)``.
        bias: The shifts, ``(C,)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Returns ``(N, C, H, W)`` for maps ``(N, C, H, W)``."""
        normal, _, _ = _Normalise.apply(maps, self.weight, self.bias)
        return cast(Tensor, normal)


class _Normalise(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(maps: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_group_norm(maps.contiguous(), weight, bias, *_sizes(maps), EPSILON)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Tensor], output: Sequence[Tensor]) -> None:
        (maps, weight, _), (_, mean, inverse) = inputs, output
        ctx.mark_non_differentiable(mean, inverse)
        ctx.save_for_backward(maps, weight, mean, inverse)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        return _Differentiate.apply(slopes[0], *ctx.saved_tensors)[:3]


class _Differentiate(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(g: Tensor, maps: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor) -> Any:
        return torch.ops.aten.native_group_norm_backward(
            *(g.contiguous(), maps.contiguous(), mean, inverse, weight), *_sizes(maps), [True] * 3
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Tensor], output: Sequence[Tensor]) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        g, maps, weight, mean, r = ctx.saved_tensors
        u, s, t = slopes[0].flatten(2), slopes[1].unsqueeze(1), slopes[2].unsqueeze(1)
        g, gamma, r = g.flatten(2), weight.unsqueeze(1), r.unsqueeze(2)
        x = (maps.flatten(2) - mean.unsqueeze(2)) * r
        mean_g, mean_u = _means(g), _means(u)
        gx, ux = _means(g * x), _means(u * x)
        k = r * (_means(g * u) - mean_g * mean_u - gx * ux)
        a, b = s - r * gamma * ux, -r * gamma * gx
        by_x = torch.addcmul(-r * (a * mean_g + b * mean_u), x, -r * (a * gx + b * ux + gamma * k))
        by_x.addcmul_(g, r * a).addcmul_(u, r * b)
        by_g = torch.addcmul(t - r * gamma * mean_u, x, a).addcmul_(u, r * gamma)
        by_weight = k.sum((0, 2)) * x.shape[2]
        return by_g.view_as(maps), by_x.view_as(maps), by_weight, None, None


def _sizes(maps: Tensor) -> tuple[int, int, int, int]:
    """Returns what torch's group normalisation asks for: N, C, H x W, groups."""
    count, channels, height, width = maps.shape
    return count, channels, height * width, channels


def _means(maps: Tensor) -> Tensor:
    """Returns the mean of every map, ``(N, C, 1)``."""
    return maps.mean(2, keepdim=True)
