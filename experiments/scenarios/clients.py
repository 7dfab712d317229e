"""What is said and shown of clients before they work: who has which images, and sees them how."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from experiments.scenarios.distillation import shown_beside
from fedcl.client_accuracy import client_counts
from fedcl.datasets import Dataset
from fedcl.federated.base import World
from fedcl.heterogeneity import feature_shift, heterogeneity, quantity_skew
from fedcl.shift import Unshifted, Views

MOST_PICTURED = 10  # clients


def spread(world: World, data: Dataset, views: Views) -> dict[str, Any]:
    """Returns how images are spread over the clients, how unlike these are, and the raw bytes."""
    counts, images = client_counts(world), data.train.images
    return {
        "class_counts": counts.tolist(),
        "heterogeneity": heterogeneity(counts),
        "quantity_skew": quantity_skew(counts),
        "feature_shift": shifted(views, data),
        "raw_bytes": images.numel() * images.element_size(),
    }


def shifted(views: Views, data: Dataset) -> float:
    """Returns how differently clients see a few test images."""
    if isinstance(views.shift, Unshifted):
        return 0.0
    some = data.normalised(shown_beside(data.test))
    seen = (views.seen_by(client, some, "shown").images for client in range(views.clients))
    return feature_shift(some.images, seen)


def pictured(views: Views, data: Dataset) -> Mapping[int, Tensor]:
    """Returns a test image of each class, uint8, as some clients see it; nothing if all alike."""
    if isinstance(views.shift, Unshifted):
        return {}
    some = data.normalised(shown_beside(data.test, 1))
    clients = range(0, views.clients, math.ceil(views.clients / MOST_PICTURED))
    seen = {client: views.seen_by(client, some, "shown").images for client in clients}
    return {client: data.normalisation.quantise(images) for client, images in seen.items()}
