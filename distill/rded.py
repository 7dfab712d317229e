r"""Crops with teacher labels (RDED): keep the views of real images that a teacher finds easiest.

A teacher is trained on the real images. From each of several real images of a class it sees
a few random crops, and the crops of lowest cross-entropy are kept, one an image at most,
labelled with what the teacher answers, :math:`\mathrm{softmax}(f(x))`. No image is ever
optimised, so this is what distilling with soft labels has to beat.

References:
    | On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation
    | Paradigm (Sun et al., CVPR 2024), https://arxiv.org/abs/2312.03526

Differences from the paper: one crop fills an image, as the paper has it for small images;
the teacher answers once, for the stored image, where the paper's teacher travels with the
set and labels every augmented view in training.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from distill.checks import fraction, whole
from distill.condenser import Condenser, State, Step, Task
from distill.images import LabelledImages
from distill.labels import SoftLabels
from distill.networks import Architecture, Network
from distill.real import RealData
from distill.rng import derive
from distill.synthetic import SyntheticSet
from distill.training import Recipe, train

AT_ONCE = 500  # crops that the teacher sees at once


@final
@dataclass(frozen=True)
class RealisticCrops(Condenser):
    """Real crops that a teacher finds easiest, with its answers as labels.

    Attributes:
        teacher: Its architecture.
        recipe: How it is trained on the real images.
        candidates: Real images considered for each that is kept, >= 1.
        crops: Crops of each of them, >= 1.
        smallest: Share of the area that a crop covers at least, in (0, 1].
    """

    teacher: Architecture
    recipe: Recipe
    candidates: int
    crops: int
    smallest: float

    def __post_init__(self) -> None:
        whole("method.candidates", self.candidates, 1)
        whole("method.crops", self.crops, 1)
        fraction("method.smallest", self.smallest)
        if self.smallest == 0:
            raise ValueError("method.smallest must be > 0, got 0")

    @property
    def makes_pixels(self) -> bool:
        """True."""
        return True

    @property
    def labels(self) -> SoftLabels:
        """Distributions, as the teacher answers."""
        return SoftLabels(0.9)

    def steps(self, task: Task, state: State | None = None) -> Iterator[Step]:  # noqa: ARG002
        """Yields the one step.

        Raises:
            FloatingPointError: If the teacher diverges.
        """
        real = RealData(task)
        teacher = real.fresh(self.teacher, "teacher")
        loss = train(teacher, task.real, self.recipe, derive(task.seed, "teacher training"))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the teacher's loss must stay finite, got {loss}; lower "
                f"method.recipe.learning_rate, now {self.recipe.learning_rate}"
            )
        kept = [
            self._kept(teacher, task.real.of_class(label), label, task) for label in task.classes
        ]
        images = torch.cat(kept)
        answers = _logits(teacher, images).softmax(1)
        labels = task.labels.to(images.device)
        data = LabelledImages(images, labels, task.real.num_classes, answers)
        small = SyntheticSet(data, task.normalisation, "real")
        yield Step(1, 1, None, dict, lambda: small)

    def _kept(self, teacher: Network, images: Tensor, label: int, task: Task) -> Tensor:
        wanted, rng = int(task.counts[label]), derive(task.seed, "crops", label)
        order = torch.randperm(len(images), generator=rng)[: wanted * self.candidates]
        views = random_crops(images[order].repeat(self.crops, 1, 1, 1), self.smallest, rng)
        logits = _logits(teacher, views)
        targets = torch.full((len(views),), label, device=views.device)
        losses = F.cross_entropy(logits, targets, reduction="none").view(self.crops, -1)
        easiest = losses.argmin(0)
        best = losses.min(0).values.argsort()[:wanted]
        return views.view(self.crops, -1, *images.shape[1:])[easiest[best], best]


@torch.no_grad()
def _logits(network: Network, images: Tensor) -> Tensor:
    network.eval()
    return torch.cat([network(chunk) for chunk in torch.split(images, AT_ONCE)])


def random_crops(images: Tensor, smallest: float, rng: torch.Generator) -> Tensor:
    """Returns a random part of each image at full size, ``(N, C, H, W)``.

    Args:
        images: ``(N, C, H, W)``.
        smallest: Share of the area that a part covers at least, in (0, 1].
        rng: Draws the area, uniformly, and the place.
    """
    u = torch.rand(3, len(images), generator=rng).to(images)
    side = (smallest + (1 - smallest) * u[0]).sqrt()
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = side
    theta[:, :, 2] = (2 * u[1:].T - 1) * (1 - side).unsqueeze(1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
