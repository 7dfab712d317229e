r"""The one second-order primitive: how a parameter gradient, seen in one direction, moves.

For a network with weights :math:`\theta`, images :math:`x`, targets :math:`y`, the mean
cross-entropy :math:`\ell` and a fixed direction :math:`v` in weight space,

.. math:: p(\theta, x, y) = \big\langle \nabla_\theta \ell(\theta; x, y), v \big\rangle

and :func:`pullback` returns :math:`\partial p / \partial x`, :math:`\partial p / \partial y`
and :math:`\partial p / \partial \theta`. By the chain rule a loss :math:`D(g_s, g_r)` on
gradients needs only :math:`v = \partial D / \partial g_s`, and a loss at the end of training
needs one pullback a step; the graph of one batch is alive at any time, however long the
training. Images don't meet in a network without batch statistics and the mean is a sum, so
the batch may be cut into chunks, exactly.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

Weights = Mapping[str, Tensor]


@final
@dataclass(frozen=True)
class Pulled:
    """The derivatives of :math:`p`.

    Attributes:
        images: By the images, their shape.
        targets: By the targets, where these are distributions ``(N, C)``; else None.
        weights: By the weights, by name; empty if not asked for.
    """

    images: Tensor
    targets: Tensor | None
    weights: Weights


@final
@dataclass(frozen=True)
class Through:
    r"""What a pullback differentiates by.

    Attributes:
        weights: Whether :math:`\partial p / \partial \theta` is wanted.
        chunk: Images whose graph is alive at once; None: all.
    """

    weights: bool
    chunk: int | None = None


EVERYTHING = Through(weights=True)
IMAGES = Through(weights=False)


def weights_of(network: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of the network's weights, by name, without a graph."""
    return {name: p.detach().clone() for name, p in network.named_parameters()}


def check_alike(place: str, given: Weights, network: nn.Module) -> None:
    """Refuses weights that are not of a network's architecture.

    Args:
        place: What was given them and has the architecture, as ``network_source``.
        given: The weights, by name.
        network: Of that architecture.

    Raises:
        ValueError: Naming one that differs.
    """
    shapes, expected = (
        {name: tuple(w.shape) for name, w in weights.items()}
        for weights in (given, weights_of(network))
    )
    other = sorted(name for name in shapes | expected if shapes.get(name) != expected.get(name))
    if other:
        name = other[0]
        raise ValueError(
            f"weights given to {place} must be those of {place}.architecture, got "
            f"{shapes.get(name, 'nothing')} for {name}, which has "
            f"{expected.get(name, 'no place')}; give distiller the network's choice"
        )


def gradient(
    network: nn.Module,
    weights: Weights,
    batch: tuple[Tensor, Tensor],
    by: Collection[str],
    *,
    graph: bool = False,
) -> dict[str, Tensor]:
    r"""Returns :math:`\nabla_\theta \ell` by the weights named ``by``.

    Args:
        network: The architecture; its own weights are not used.
        weights: :math:`\theta`, by name.
        batch: Images ``(N, C, H, W)``, and classes ``(N,)`` or distributions ``(N, num_classes)``.
        by: Names of weights.
        graph: Whether the gradient can be differentiated again.
    """
    leaves = {
        k: w if w.requires_grad else w.detach().requires_grad_(k in by) for k, w in weights.items()
    }
    images, targets = batch
    loss = F.cross_entropy(functional_call(network, leaves, (images,)), targets)
    slopes = torch.autograd.grad(loss, [leaves[name] for name in by], create_graph=graph)
    return dict(zip(by, slopes, strict=True))


def traced_gradient(
    network: nn.Module, weights: Weights, batch: tuple[Tensor, Tensor], by: Collection[str]
) -> tuple[dict[str, Tensor], Callable[[Weights], Tensor]]:
    r"""Returns :math:`\nabla_\theta \ell` by some weights, and what pulls :math:`v` to the images.

    For directions that depend on the gradient: one pass through the network serves both, where
    :func:`pullback` takes its own. Called once, it gives what that gives, and drops the graph.

    Args:
        network: The architecture.
        weights: :math:`\theta`, by name.
        batch: Images and targets, as of :func:`gradient`.
        by: Names of weights.
    """
    images = batch[0].detach().requires_grad_()
    slopes = gradient(network, weights, (images, batch[1]), by, graph=True)

    def pulled(direction: Weights) -> Tensor:
        traced = [slopes[name] for name in direction]
        (found,) = torch.autograd.grad(traced, images, list(direction.values()))
        return found

    return slopes, pulled


def whole_gradient(
    network: nn.Module, weights: Weights, batch: tuple[Tensor, Tensor], chunk: int | None
) -> dict[str, Tensor]:
    r"""Returns :math:`\nabla_\theta \ell` by all weights.

    Args:
        network: The architecture.
        weights: :math:`\theta`, by name.
        batch: Images and targets, as of :func:`gradient`.
        chunk: Images whose activations are alive at once; None: all.
    """
    parts = [
        scaled(gradient(network, weights, part, list(weights)), len(part[0]) / len(batch[0]))
        for part in _cut(batch, chunk)
    ]
    return {name: _summed([part[name] for part in parts]) for name in weights}


def pullback(
    network: nn.Module,
    weights: Weights,
    batch: tuple[Tensor, Tensor],
    direction: Weights,
    through: Through = EVERYTHING,
) -> Pulled:
    r"""Returns the derivatives of :math:`\langle \nabla_\theta \ell, v \rangle`.

    Args:
        network: The architecture.
        weights: :math:`\theta`, by name.
        batch: Images and targets; the latter are classes or distributions.
        direction: :math:`v`, by name; a weight left out counts as zero.
        through: What is differentiated by, and how much at once.
    """
    parts = [
        _pulled(network, weights, part, scaled(direction, len(part[0]) / len(batch[0])), through)
        for part in _cut(batch, through.chunk)
    ]
    soft = [part.targets for part in parts if part.targets is not None]
    return Pulled(
        torch.cat([part.images for part in parts]),
        torch.cat(soft) if soft else None,
        {name: _summed([p.weights[name] for p in parts]) for name in parts[0].weights},
    )


def scaled(weights: Weights, factor: float) -> dict[str, Tensor]:
    """Returns the weights times ``factor``."""
    return {name: w * factor for name, w in weights.items()}


def _pulled(
    network: nn.Module,
    weights: Weights,
    batch: tuple[Tensor, Tensor],
    direction: Weights,
    through: Through,
) -> Pulled:
    leaves = {
        k: w.detach().requires_grad_(through.weights or k in direction) for k, w in weights.items()
    }
    images = batch[0].detach().requires_grad_()
    soft = batch[1].is_floating_point()
    targets = batch[1].detach().requires_grad_(soft)
    slopes = gradient(network, leaves, (images, targets), list(direction), graph=True)
    product = torch.stack([(slopes[name] * v).sum() for name, v in direction.items()]).sum()
    by_weights = list(leaves) if through.weights else []
    wanted = [images, *([targets] if soft else []), *(leaves[name] for name in by_weights)]
    found = list(torch.autograd.grad(product, wanted, allow_unused=True, materialize_grads=True))
    by_images, by_targets = found.pop(0), found.pop(0) if soft else None
    return Pulled(by_images, by_targets, dict(zip(by_weights, found, strict=True)))


def _cut(batch: tuple[Tensor, Tensor], chunk: int | None) -> list[tuple[Tensor, Tensor]]:
    size = chunk or len(batch[0])
    return list(zip(*(torch.split(part, size) for part in batch), strict=True))


def _summed(parts: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)
