"""The one loop that fits a network, and the one that scores it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from distill.augment import Augmentation
from distill.checks import at_least, below_one, fraction, one_of, positive, whole
from distill.cutmix import cutmix
from distill.images import LabelledImages
from distill.labels import scores
from distill.precision import PRECISIONS, products
from distill.schedules import Schedule

SCORED_AT_ONCE = 500  # images


@final
@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        epochs: Passes over the data, >= 1.
        batch: Images a step, >= 1; the last batch of an epoch may be smaller.
        learning_rate: Step size, > 0.
        momentum: In [0, 1).
        weight_decay: Factor of the weights added to their gradient, >= 0.
        decay_after: Epochs after which the step is a tenth and momentum starts again, or None.
        augmentation: Drawn per image, one family a batch.
        optimiser: ``sgd``, ``adam`` or ``adamw``; momentum is the first's alone.
        loss: ``cross_entropy`` of the classes, or of the targets where these are distributions;
            ``squared``: the distance of the logits from the targets, or from the centred
            one-hot labels where there are none.
        schedule: How the step changes from epoch to epoch, momentum kept; None: it doesn't.
        cutmix: Share of the batches that are mixed after their augmentation, in [0, 1].
        precision: Of the products in its passes, ``float32`` or ``bfloat16``.
        clip: Largest norm of a step's gradient over all weights, > 0; None: any.
    """

    epochs: int
    batch: int
    learning_rate: float
    momentum: float
    weight_decay: float
    decay_after: int | None
    augmentation: Augmentation
    optimiser: str = "sgd"
    loss: str = "cross_entropy"
    schedule: Schedule | None = None
    cutmix: float = 0.0
    precision: str = "float32"
    clip: float | None = None

    def __post_init__(self) -> None:
        whole("epochs", self.epochs, 1)
        whole("batch", self.batch, 1)
        positive("learning_rate", self.learning_rate)
        below_one("momentum", self.momentum)
        if self.decay_after is not None:
            whole("decay_after", self.decay_after, 1)
        at_least("weight_decay", self.weight_decay, 0)
        one_of("optimiser", self.optimiser, ("sgd", "adam", "adamw"))
        one_of("loss", self.loss, ("cross_entropy", "squared"))
        fraction("cutmix", self.cutmix)
        one_of("precision", self.precision, PRECISIONS)
        if self.clip is not None:
            positive("clip", self.clip)
        if self.cutmix > 0 and self.loss != "cross_entropy":
            raise ValueError(f"cutmix must be 0 with loss={self.loss}, got {self.cutmix}")
        if self.schedule is not None and self.decay_after is not None:
            raise ValueError(f"decay_after must be null with a schedule, got {self.decay_after}")

    def build_optimiser(self, network: nn.Module, factor: float = 1.0) -> torch.optim.Optimizer:
        """Returns the optimiser of the network's parameters, its step times ``factor``."""
        rate, decay = self.learning_rate * factor, self.weight_decay
        if self.optimiser == "adam":
            return torch.optim.Adam(network.parameters(), lr=rate, weight_decay=decay)
        if self.optimiser == "adamw":
            return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=decay)
        momentum = self.momentum
        return torch.optim.SGD(network.parameters(), lr=rate, momentum=momentum, weight_decay=decay)

    def pace(self, optimiser: torch.optim.Optimizer, epoch: int) -> None:
        """Sets the optimiser's step size to that of an epoch, where there is a schedule."""
        if self.schedule is not None:
            factor = self.schedule.factor((epoch + 0.5) / self.epochs)
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate * factor

    def limit(self, network: nn.Module) -> None:
        """Scales the network's gradients down to the norm ``clip``, where they are longer."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.clip)

    def seen(
        self, images: Tensor, wanted: Tensor, num_classes: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Returns a batch as the network sees it, augmented and perhaps mixed.

        Args:
            images: ``(N, C, H, W)``.
            wanted: Classes ``(N,)`` or targets ``(N, num_classes)``.
            num_classes: Classes of the task.
            rng: Draws the transforms and the mixture.
        """
        images = augmented(images, self.augmentation, rng)
        if self.cutmix == 0 or torch.rand(1, generator=rng).item() >= self.cutmix:
            return images, wanted
        soft = wanted if wanted.is_floating_point() else F.one_hot(wanted, num_classes).to(images)
        return cutmix(images, soft, rng)

    def loss_of(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Returns the mean loss of logits ``(N, num_classes)``.

        Args:
            logits: What the network answers.
            wanted: Classes ``(N,)`` or targets ``(N, num_classes)``.
        """
        if self.loss == "cross_entropy":
            return F.cross_entropy(logits, wanted)
        return (logits - scores(wanted, logits.shape[1])).square().sum(1).mean()

    def wanted(self, data: LabelledImages) -> Tensor:
        """Returns what the loss compares with: the targets, if it can use them, or the classes."""
        if data.targets is not None and self.uses_targets_of(data):
            return data.targets
        return data.labels

    def uses_targets_of(self, data: LabelledImages) -> bool:
        """Returns whether there are targets, and the loss can use them."""
        return data.are_distributions or (self.loss == "squared" and data.targets is not None)


@final
@dataclass(frozen=True)
class Additions:
    """What a method adds to plain training.

    Attributes:
        adjust_gradients: Changes the gradients between backward pass and step.
        replayed: Normalised images of a memory; every batch is extended by as many of them,
            drawn with replacement, as it has, so that the ratio is constant. None or empty:
            no replay.
        enough: Asked after every step; its yes ends the training.
        forward: Takes the place of the network's own pass: from a batch's images and what is
            wanted of them, returns the logits and a further loss, added to the recipe's.
    """

    adjust_gradients: Callable[[nn.Module], None] | None = None
    replayed: LabelledImages | None = None
    enough: Callable[[], bool] | None = None
    forward: Callable[[Tensor, Tensor], tuple[Tensor, Tensor | float]] | None = None


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
    forward = additions.forward or (lambda images, _answers: (network(images), 0.0))
    network.train()
    wanted = recipe.wanted(data)
    optimiser = recipe.build_optimiser(network)
    # Summed where it is computed: a step must not wait for an accelerator.
    loss = torch.zeros((), dtype=torch.float64, device=data.images.device)
    for epoch in range(recipe.epochs):
        if epoch == recipe.decay_after:
            optimiser = recipe.build_optimiser(network, 0.1)
        recipe.pace(optimiser, epoch)
        loss.zero_()
        for rows in torch.split(torch.randperm(len(data), generator=rng), recipe.batch):
            images, answers = _batch((data.images, wanted), rows, additions.replayed, rng)
            images, answers = recipe.seen(images, answers, data.num_classes, rng)
            with products(recipe.precision, images.device):
                logits, further_loss = forward(images, answers)
            batch_loss = recipe.loss_of(logits.to(images.dtype), answers) + further_loss
            optimiser.zero_grad(set_to_none=True)
            batch_loss.backward()  # type: ignore[no-untyped-call]
            if additions.adjust_gradients is not None:
                additions.adjust_gradients(network)
            recipe.limit(network)
            optimiser.step()
            loss += batch_loss.detach().double() * len(rows) / len(data)
            if additions.enough is not None and additions.enough():
                return loss.item()
    return loss.item()


def _batch(
    data: tuple[Tensor, Tensor],
    rows: Tensor,
    replayed: LabelledImages | None,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    images, answers = data
    if replayed is None or len(replayed) == 0:
        return images[rows], answers[rows]
    drawn = torch.randint(len(replayed), (len(rows),), generator=rng)
    images = torch.cat([images[rows], replayed.images[drawn]])
    return images, torch.cat([answers[rows], replayed.labels[drawn]])


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
