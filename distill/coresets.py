r"""The rivals at equal bytes: real images chosen, or averaged, without any gradient.

All work class by class on flattened normalised pixels :math:`x_i`, with class mean
:math:`\mu`:

- random: images drawn without replacement;
- herding: greedily :math:`x_{t+1} = \arg\max_i \langle w_t, x_i \rangle`,
  :math:`w_{t+1} = w_t + \mu - x_{t+1}`, :math:`w_0 = \mu`, each image once;
- k-center: greedily the image farthest from those chosen, the first nearest to the mean;
- k-means: the centroids of Lloyd's algorithm (scikit-learn), which are averages.

References:
    | Herding Dynamical Weights to Learn (Welling, ICML 2009)
    | Active Learning for CNNs: a Core-Set Approach (Sener and Savarese, ICLR 2018)
    | https://arxiv.org/abs/1708.00489

Differences from the papers: features are pixels, so that no rival needs a trained network.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import final

import torch
from threadpoolctl import ThreadpoolController
from torch import Tensor

from distill.condenser import Condenser, State, Step, Task
from distill.images import LabelledImages
from distill.rng import derive, subseed
from distill.synthetic import Origin, SyntheticSet


@final
@dataclass(frozen=True)
class Random(Condenser):
    """Real images drawn uniformly without replacement."""

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step."""
        chosen = []
        for label, images, count in _class_tasks(task):
            order = torch.randperm(len(images), generator=derive(task.seed, "random", label))
            chosen.append(images[order[:count]])
        yield _only_step(task, chosen, "real")


@final
@dataclass(frozen=True)
class Herding(Condenser):
    """Real images whose running mean follows the class mean."""

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step."""
        chosen = [images[herd(images.flatten(1), n)] for _, images, n in _class_tasks(task)]
        yield _only_step(task, chosen, "real")


@final
@dataclass(frozen=True)
class KCenter(Condenser):
    """Real images that cover the class: none lies far from a chosen one."""

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step."""
        chosen = [images[centres(images.flatten(1), n)] for _, images, n in _class_tasks(task)]
        yield _only_step(task, chosen, "real")


@final
@dataclass(frozen=True)
class KMeans(Condenser):
    """The centroids of each class: averages of real images, not real images."""

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step."""
        chosen = []
        for label, images, count in _class_tasks(task):
            seed = subseed(task.seed, "kmeans", label) % 2**32
            chosen.append(centroids(images.flatten(1), count, seed).view(-1, *images.shape[1:]))
        yield _only_step(task, chosen, "real")


@final
@dataclass(frozen=True)
class Noise(Condenser):
    """Standard normal noise in normalised space: a start that holds nothing of the data."""

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step."""
        chosen = []
        for label in task.classes:
            shape = (int(task.counts[label]), *task.real.image_shape)
            noise = torch.randn(shape, generator=derive(task.seed, "noise", label))
            chosen.append(noise.to(task.real.images))
        yield _only_step(task, chosen, "noise")


def herd(features: Tensor, count: int) -> Tensor:
    """Returns the rows that herding chooses, in its order: ``(n, D)`` to ``(count,)``."""
    mean = features.mean(0)
    weight, chosen = mean.clone(), []
    left = torch.ones(len(features), dtype=torch.bool, device=features.device)
    for _ in range(count):
        scores = (features @ weight).masked_fill(~left, -torch.inf)
        best = int(scores.argmax())
        left[best] = False
        weight = weight + mean - features[best]
        chosen.append(best)
    return torch.tensor(chosen)


def centres(features: Tensor, count: int) -> Tensor:
    """Returns the rows of greedy k-center, in its order: ``(n, D)`` to ``(count,)``."""
    chosen = [int((features - features.mean(0)).norm(dim=1).argmin())]
    distance = features.new_full((len(features),), torch.inf)
    while len(chosen) < count:
        distance = distance.minimum((features - features[chosen[-1]]).norm(dim=1))
        distance[chosen[-1]] = -1.0  # below any other, so that equal images are not taken twice
        chosen.append(int(distance.argmax()))
    return torch.tensor(chosen)


def centroids(features: Tensor, count: int, seed: int) -> Tensor:
    """Returns the k-means centroids ``(count, D)``, the best of four starts."""
    if len(features) == 1:
        return features  # what comes out below, some milliseconds later
    from sklearn.cluster import KMeans as Lloyd  # a second of import, for this method alone

    with _pools().limit(limits=torch.get_num_threads()):
        fitted = Lloyd(count, n_init=4, random_state=seed).fit(features.cpu().double().numpy())
    return torch.from_numpy(fitted.cluster_centers_).to(features)


@cache
def _pools() -> ThreadpoolController:
    """Returns the threads of all libraries, scikit-learn among them; torch limits its own only."""
    return ThreadpoolController()


def _class_tasks(task: Task) -> Iterator[tuple[int, Tensor, int]]:
    for label in task.classes:
        images, count = task.real.of_class(label), int(task.counts[label])
        if count > len(images):
            raise ValueError(
                f"ipc must be <= {len(images)}, the real images of class {label}, got {count}"
            )
        yield label, images, count


def _only_step(task: Task, chosen: list[Tensor], origin: Origin) -> Step:
    images = torch.cat(chosen)
    data = LabelledImages(images, task.labels.to(images.device), task.real.num_classes)
    small = SyntheticSet(data, task.normalisation, origin)
    return Step(1, 1, None, dict, lambda: small)
