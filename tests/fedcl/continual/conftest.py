from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from distill.augment import Augmentation
from distill.images import LabelledImages
from distill.networks import MLP, Network, fresh
from distill.rng import derive
from distill.training import Recipe
from fedcl.continual.base import Batch, Moment

RECIPE = Recipe(
    epochs=1,
    batch=4,
    learning_rate=0.5,
    momentum=0.0,
    weight_decay=0.0,
    decay_after=None,
    augmentation=Augmentation([], False),
)


@pytest.fixture
def network() -> Network:
    """Four classes; the first has an odds advantage, so that nothing is symmetric."""
    network = fresh(MLP(6, 1), (1, 8, 8), 4, derive(0, "network"))
    with torch.no_grad():
        network.classifier.bias += torch.tensor([1.0, 0.0, -0.5, 0.25])
    return network


@pytest.fixture
def moment(network: Network, rng: torch.Generator) -> Callable[..., Moment]:
    """Makes a moment: classes 2 and 3 come, 0 and 1 were there, and the memory holds two each."""
    held = LabelledImages(
        torch.randn(4, 1, 8, 8, generator=rng), torch.tensor([0, 0, 1, 1]), num_classes=4
    )
    usual = {
        "network": network,
        "held": held,
        "index": 1,
        "images": 8,
        "classes": [2, 3],
        "earlier": [0, 1],
        "answers": None,
        "recipe": RECIPE,
        "left": {},
        "rng": derive(0, "lesson"),
    }
    return lambda **changes: Moment(**{**usual, **changes})


@pytest.fixture
def batch(rng: torch.Generator) -> Callable[..., Batch]:
    """Makes a batch of labels, those of the stream first; views differ."""

    def make(stream: list[int], memory: list[int], answers: Tensor | None = None) -> Batch:
        labels = torch.tensor([*stream, *memory])
        views = torch.randn(2, len(labels), 1, 8, 8, generator=rng)
        told = None if answers is None else answers[labels]
        rows = torch.randint(4, (len(memory),), generator=rng)
        return Batch(views[0], views[1], labels, len(stream), rows, told)

    return make


@pytest.fixture
def tasks() -> Tensor:
    """Answers of two tasks, classes 0 and 1, 2 and 3."""
    return torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]).bool()
