"""The one loop that fits a network, and the one that scores it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.checks import at_least, below_one, positive, whole
from distill.images import LabelledImages

SCORED_AT_ONCE = 500  # images


@final
@dataclass(frozen=True)
class Recipe:
    """How a network is trained: stochastic gradient descent on cross-entropy.

    Attributes:
        epochs: Passes over the data, >= 1.
        batch: Images a step, >= 1; the last batch of an epoch may be smaller.
        learning_rate: Step size, > 0.
        momentum: In [0, 1).
        weight_decay: Factor of the weights added to their gradient, >= 0.
        decay_after: Epochs after which the step is a tenth and momentum starts again, or None.
        augmentation: Drawn per image, one family a batch.
    """

    epochs: int
    batch: int
    learning_rate: float
    momentum: float
    weight_decay: float
    decay_after: int | None
    augmentation: Augmentation

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("batch", self.batch, 1)
        positive("learning_rate", self.learning_rate)
        below_one("momentum", self.momentum)
        if self.decay_after is not None:
            whole("decay_after", self.decay_after, 1)
        at_least("weight_decay", self.weight_decay, 0)

    def optimiser(self, network: nn.Module, factor: float = 1.0) -> torch.optim.Optimizer:
        """Returns the optimiser of the network's parameters, its step times ``factor``."""
        return torch.optim.SGD(
            network.parameters(),
            lr=self.learning_rate * factor,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


@final
@dataclass(frozen=True)
class Additions:
    """What a method adds to plain training.

    Attributes:
        adjust_gradients: Changes the gradients between backward pass and step.
        replayed: Normalised images of a memory; every batch is extended by as many of them,
            drawn with replacement, as it has, so that the ratio is constant. None or empty:
            no replay.
    """

    adjust_gradients: Callable[[nn.Module], None] | None = None
    replayed: LabelledImages | None = None


def train(
    network: nn.Module,
    data: LabelledImages,
    recipe: Recipe,
    rng: torch.Generator,
    additions: Additions | None = None,
) -> float:
    """Fits ``network`` in place and returns the mean loss of the last epoch.

    Args:
        network: Maps images ``(N, C, H, W)`` to logits.
        data: Normalised images, at least one.
        recipe: Epochs, batch, step sizes, augmentation.
        rng: Draws the order of images and the augmentation.
        additions: Replay, or a change of the gradients.

    Raises:
        ValueError: If there is no image.
    """
    if len(data) == 0:
        raise ValueError("data must hold at least one image, got none")
    additions = additions or Additions()
    network.train()
    optimiser, loss = recipe.optimiser(network), 0.0
    for epoch in range(recipe.epochs):
        if epoch == recipe.decay_after:
            optimiser = recipe.optimiser(network, 0.1)
        loss = 0.0
        for rows in torch.split(torch.randperm(len(data), generator=rng), recipe.batch):
            images, labels = _batch(data, rows, additions.replayed, rng)
            images = augmented(images, recipe.augmentation, rng)
            batch_loss = F.cross_entropy(network(images), labels)
            optimiser.zero_grad(set_to_none=True)
            batch_loss.backward()  # type: ignore[no-untyped-call]
            if additions.adjust_gradients is not None:
                additions.adjust_gradients(network)
            optimiser.step()
            loss += batch_loss.item() * len(rows) / len(data)
    return loss


def _batch(
    data: LabelledImages, rows: Tensor, replayed: LabelledImages | None, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    if replayed is None or len(replayed) == 0:
        return data.images[rows], data.labels[rows]
    drawn = torch.randint(len(replayed), (len(rows),), generator=rng)
    images = torch.cat([data.images[rows], replayed.images[drawn]])
    return images, torch.cat([data.labels[rows], replayed.labels[drawn]])


def augmented(images: Tensor, augmentation: Augmentation, rng: torch.Generator) -> Tensor:
    """Returns images ``(N, C, H, W)``, each under its own draw of one family."""
    height, width = images.shape[2:]
    return augmentation.draw(len(images), (height, width), rng)(images)


@torch.inference_mode()
def score(network: nn.Module, data: LabelledImages) -> tuple[float, float]:
    """Returns the accuracy in [0, 1] and the mean cross-entropy on normalised images.

    Raises:
        ValueError: If there is no image.
    """
    if len(data) == 0:
        raise ValueError("data must hold at least one image, got none")
    network.eval()
    correct, loss = 0, 0.0
    for rows in torch.split(torch.arange(len(data)), SCORED_AT_ONCE):
        images, labels = data.images[rows], data.labels[rows]
        logits = network(images)
        correct += int((logits.argmax(1) == labels).sum())
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
    return correct / len(data), loss / len(data)
