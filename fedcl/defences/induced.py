"""The gradients that a small set induces: what a client's images would do to the global network."""

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F  # noqa: N812

from distill.pullback import Weights, weights_of
from fedcl.defences.blocks import Represent
from fedcl.federated.base import ServerTask


def induced_gradients(server: ServerTask) -> Represent:
    """Returns what maps images of a class to their gradients of the loss, one row an image."""
    network = server.world.network_with(server.weights).eval()
    weights = weights_of(network)

    def loss(weights: Weights, image: Tensor, label: Tensor) -> Tensor:
        logits: Tensor = functional_call(network, dict(weights), (image.unsqueeze(0),))
        return F.cross_entropy(logits, label.unsqueeze(0))

    each = vmap(grad(loss), in_dims=(None, 0, 0))

    def represent(images: Tensor, label: int) -> Tensor:
        gradients = each(weights, images, torch.full((len(images),), label).to(images.device))
        return torch.cat([part.flatten(1) for part in gradients.values()], 1)

    return represent
