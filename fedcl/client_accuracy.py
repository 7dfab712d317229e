r"""What a network is worth to each client: its accuracy on test images distributed as the client's.

With :math:`q_k(c)` the share of class c among client k's training images and :math:`a_c` the
accuracy on the test images of class c, seen as client k sees them,

.. math:: A_k = \sum_c q_k(c)\, a_c .

Classes without a test image are left out, and the shares of the others scaled up; a client of
such classes alone has no accuracy. Sums are in float64.

References:
    | Fair Resource Allocation in Federated Learning (Li, Sanjabi, Beirami and Smith, ICLR 2020)
    | https://arxiv.org/abs/1905.10497: the mean and the worst over clients
    | Improving Federated Learning Personalization via Model Agnostic Meta Learning
      (Jiang, Konecny, Rush and Kannan, 2019)
    | https://arxiv.org/abs/1909.12488: the global network, fine-tuned by each client

Differences from the papers: clients hold no test images of their own. Each is scored on all
test images, weighted by class, which has the same expectation and less variance. A client
counts as much as any other, whatever its size.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

import torch
from torch import Tensor, nn

from distill.images import LabelledImages
from distill.rng import derive
from distill.training import SCORED_AT_ONCE, Recipe, train
from fedcl.federated.base import ServerTask, World
from fedcl.shift import Views


def global_accuracies(task: ServerTask, test: LabelledImages, views: Views) -> list[float | None]:
    """Returns :math:`A_k` of the global network for each client, in [0, 1].

    Args:
        task: Holds the global network and the clients.
        test: Normalised test images as they are.
        views: How the clients see them.
    """
    network = task.model()
    by_level = dict[float, Tensor]()
    for client in range(len(task.world.clients)):
        level = views.level(client)
        if level not in by_level:
            by_level[level] = class_accuracies(network, views.seen_by(client, test, "test"))
    return [
        expected_accuracy(counts, by_level[views.level(client)])
        for client, counts in enumerate(client_counts(task.world))
    ]


def personalised_accuracies(
    task: ServerTask, recipe: Recipe, test: LabelledImages, views: Views
) -> Iterator[float | None]:
    """Yields :math:`A_k` of the global network after client k trained it on all its images.

    What it would take to send that network to the clients is in no count of bytes.

    Args:
        task: Holds the global network and the clients, none of which changes.
        recipe: How a client trains.
        test: Normalised test images as they are.
        views: How the clients see them.
    """
    world = task.world
    for client, parts in enumerate(world.clients):
        own, network = LabelledImages.union(parts), world.network_with(task.weights)
        train(network, own, recipe, derive(world.seed, "personalise", client))
        accuracies = class_accuracies(network, views.seen_by(client, test, "test"))
        yield expected_accuracy(own.counts, accuracies)


def client_counts(world: World) -> Tensor:
    """Returns each client's training images of each class, int64, ``(clients, num_classes)``."""
    return torch.stack([torch.stack([part.counts for part in own]).sum(0) for own in world.clients])


@torch.no_grad()
def class_accuracies(network: nn.Module, test: LabelledImages) -> Tensor:
    """Returns the accuracy :math:`a_c` on each class, float64 in [0, 1], ``(num_classes,)``.

    It is NaN for a class without an image.

    Args:
        network: Maps images ``(N, C, H, W)`` to logits.
        test: Normalised images.
    """
    network.eval()
    batches = torch.split(test.images, SCORED_AT_ONCE)
    answers = [network(images).argmax(1) for images in batches]
    right = test.labels[torch.cat(answers) == test.labels]
    return right.bincount(minlength=test.num_classes).cpu().double() / test.counts


def expected_accuracy(counts: Tensor, accuracies: Tensor) -> float | None:
    """Returns :math:`A_k`, in [0, 1]; None where no class of the client was tested.

    >>> expected_accuracy(torch.tensor([3, 1, 0]), torch.tensor([0.5, 1.0, 0.0]))
    0.625

    Args:
        counts: The client's training images of each class, ``(num_classes,)``.
        accuracies: :math:`a_c`, NaN for classes that were not tested, ``(num_classes,)``.
    """
    tested = ~accuracies.isnan()
    held = counts[tested].double()
    if held.sum() == 0:
        return None
    return (held @ accuracies[tested].double() / held.sum()).item()


def mean_and_worst(accuracies: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Returns the mean and the smallest of the clients' accuracies, those that there are.

    >>> mean_and_worst([0.25, None, 0.75])
    (0.5, 0.25)
    """
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return (fmean(known), min(known)) if known else (None, None)
