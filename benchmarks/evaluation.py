"""Evaluating a small set: ours against a plain eager loop of torch's own layers.

FashionMNIST, 100 random real images, 300 epochs, ConvNet-3 of width 32, DSA, preset ``fast``
with one network, scored on the 10,000 test images. The plain loop is the obvious one:
``nn.Conv2d``, ``nn.GroupNorm``, ``nn.ReLU``, ``nn.AvgPool2d``, SGD with momentum, the same
augmentation, the same weights, order and draws. No released code is needed.

    python -m benchmarks.evaluation [--epochs 300] [--dataset fashion_mnist] [--bfloat16]
"""

import copy
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.setting import compare, composed, parser, status
from distill.condenser import Task, condense, even_counts
from distill.evaluate import Evaluation
from distill.images import LabelledImages
from distill.instance_norm import InstanceNorm
from distill.networks import Architecture, Halve, Network, fresh
from distill.rng import derive

SCORED_AT_ONCE = 500  # images


def main(words: Sequence[str] | None = None) -> int:
    """Prints what an evaluation takes on both sides; returns the exit status."""
    takes = parser("evaluating 100 images with a network of width 32", 3, folder=False)
    takes.add_argument("--epochs", type=int, default=300)
    takes.add_argument("--dataset", default="fashion_mnist")
    takes.add_argument("--bfloat16", action="store_true", help="train the network so, on ours")
    args = takes.parse_args(words)
    return status(lambda: measure(args))


def measure(args: Namespace) -> None:
    """Prints the timings and both accuracies."""
    torch.set_num_threads(args.threads)
    job = evaluated(args.dataset, args.epochs, "bfloat16" if args.bfloat16 else "float32")
    print(f"one network of: {' '.join(job.words)}")
    theirs, ours = job.plainly(), job.by_ours()
    print(compare(args, ("torch's own", theirs), ours))
    print(f"accuracy  {theirs():.4f} by torch's own layers, {ours():.4f} by ours")


@final
@dataclass(frozen=True)
class Evaluated:
    """A set that is to be evaluated.

    Attributes:
        words: Those of the ``fedcl distill`` that would evaluate it.
        small: The set.
        test: What is scored on.
        evaluation: The preset.
        architecture: What is trained.
    """

    words: Sequence[str]
    small: LabelledImages
    test: LabelledImages
    evaluation: Evaluation
    architecture: Architecture

    def by_ours(self) -> Callable[[], float]:
        """Returns what evaluates the set and returns the accuracy."""
        return lambda: next(self.evaluation.accuracies(self.small, self.test, self.architecture, 0))

    def plainly(self) -> Callable[[], float]:
        """Returns what evaluates the set plainly and returns the accuracy."""
        return lambda: accuracy(self.trained_plainly(), self.test)

    def trained_plainly(self) -> nn.Module:
        """Returns torch's own layers, trained from the weights and by the draws of ours."""
        small, recipe = self.small, self.evaluation.recipe
        names = (small.image_shape, small.num_classes, derive(0, "evaluation network", 0))
        model = fresh(self.architecture, *names)
        network, rng = plain(model), derive(0, "evaluation training", 0)
        for epoch in range(recipe.epochs):
            if epoch in (0, recipe.decay_after):
                optimiser = torch.optim.SGD(
                    network.parameters(),
                    lr=recipe.learning_rate * (0.1 if epoch else 1.0),
                    momentum=recipe.momentum,
                    weight_decay=recipe.weight_decay,
                )
            rows = torch.randperm(len(small), generator=rng)
            draw = recipe.augmentation.draw(len(rows), small.image_shape[1:], rng)
            loss = F.cross_entropy(network(draw(small.images[rows])), small.labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return network


def evaluated(dataset: str, epochs: int, precision: str = "float32") -> Evaluated:
    """Returns random real images of a data set, 10 of each class, before their evaluation."""
    words = (
        *(f"dataset={dataset}", "method=random", "ipc=10", "network.width=32", "evaluation=fast"),
        *(f"evaluation.recipe.epochs={epochs}", "evaluation.networks=1"),
        f"evaluation.recipe.decay_after={epochs // 2}",
        f"evaluation.recipe.precision={precision}",
    )
    run = composed(words)
    counts = even_counts(run.train, run.scenario.ipc)
    task = Task(run.train, counts, run.data.normalisation, run.scenario.seed)
    small = condense(run.scenario.method, task).data
    return Evaluated(words, small, run.test, run.scenario.evaluation, run.scenario.network)


def plain(model: Network) -> nn.Sequential:
    """Returns torch's own layers in the place of ours, with copies of the weights."""
    layers = [_of_torch(layer) for layer in model.embedding.children()]
    return nn.Sequential(*layers, copy.deepcopy(model.classifier))


def _of_torch(layer: nn.Module) -> nn.Module:
    if isinstance(layer, Halve):
        return nn.AvgPool2d(2)
    if isinstance(layer, nn.ReLU):
        return nn.ReLU()
    if isinstance(layer, InstanceNorm):
        groups = nn.GroupNorm(len(layer.weight), len(layer.weight))
        groups.load_state_dict(layer.state_dict())
        return groups
    return copy.deepcopy(layer)


@torch.no_grad()
def accuracy(network: nn.Module, test: LabelledImages) -> float:
    """Returns the share of test images that are classified rightly."""
    network.eval()
    rows = torch.split(torch.arange(len(test)), SCORED_AT_ONCE)
    right = sum(int((network(test.images[r]).argmax(1) == test.labels[r]).sum()) for r in rows)
    return right / len(test)


if __name__ == "__main__":
    sys.exit(main())
