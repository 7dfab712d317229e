import pytest
import torch

from distill.images import LabelledImages, Normalisation
from distill.networks import MLP
from fedcl.federated.base import World


def images(count: int, seed: int, num_classes: int = 3) -> LabelledImages:
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % num_classes
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=rng, dtype=torch.uint8)
    return LabelledImages(Normalisation([0.5], [0.25])(pixels), labels, num_classes)


@pytest.fixture
def world() -> World:
    return World(
        clients=[[images(12, 1)], [images(6, 2)], [images(9, 3)]],
        architecture=MLP(4, 1),
        normalisation=Normalisation([0.5], [0.25]),
        image_shape=(1, 8, 8),
        num_classes=3,
        seed=0,
    )
