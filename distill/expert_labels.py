r"""Labels that experts give (DATM): distributions that start from what they answer.

A set starts from real images that at least one expert, at the end of its training, classifies
correctly. The logits of image :math:`x` of class :math:`c` start as the mean of what these
experts answer,

.. math:: \frac{1}{|E|} \sum_{e \in E} f_e(x), \qquad
    E = \{ e : \arg\max f_e(x) = c \} ,

and are learned with the images.

References:
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching
    | (Guo et al., ICLR 2024), https://arxiv.org/abs/2310.05773

Differences from the paper: its released code takes start images that the first expert
classifies correctly, and asks the next one where these are too few. A class that no expert
knows starts from any of its images, and an image that none knows, as one that is decoded from
few numbers may be, from the answers of all.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call

from distill.expert import Experts
from distill.images import LabelledImages
from distill.labels import Labels
from distill.networks import Network
from distill.pullback import Weights
from distill.real import RealData

AT_ONCE = 500  # images that an expert sees at once


@final
@dataclass(frozen=True)
class ExpertLabels(Labels):
    """Distributions for a cross-entropy loss, kept as logits.

    Attributes:
        experts: Whose answers they start from.
    """

    experts: Experts

    def eligible(self, real: RealData) -> LabelledImages:
        """Returns the images that an expert classifies correctly; of an unknown class, all."""
        data = real.data
        known = self._right(self._answers(data.images, real), data.labels).any(0)
        unknown = torch.bincount(data.labels[known], minlength=data.num_classes) == 0
        return data.rows((known | unknown[data.labels]).nonzero().flatten())

    def begin(self, start: LabelledImages, real: RealData) -> Tensor:
        """Returns the mean logits of the experts that classify an image correctly."""
        answers = self._answers(start.images, real)
        right = self._right(answers, start.labels)
        asked = (right | ~right.any(0)).unsqueeze(2)
        return (answers * asked).sum(0) / asked.sum(0)

    def numbers(self, num_classes: int) -> int:
        """Returns one a class."""
        return num_classes

    @property
    def are_distributions(self) -> bool:
        """Yes."""
        return True

    def read(self, numbers: Tensor) -> Tensor:
        """Returns the distributions."""
        return numbers.softmax(1)

    def _answers(self, images: Tensor, real: RealData) -> Tensor:
        """Returns the logits of every expert, ``(E, N, num_classes)``."""
        buffer, numbers = self.experts.begin(real, {}), range(self.experts.count)
        return torch.stack(
            [_logits(buffer.network, buffer.trajectory(number)[-1], images) for number in numbers]
        )

    def _right(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Returns which experts classify which images correctly, ``(E, N)``."""
        return answers.argmax(2) == labels


@torch.no_grad()
def _logits(network: Network, weights: Weights, images: Tensor) -> Tensor:
    parts = torch.split(images, AT_ONCE)
    return torch.cat([functional_call(network, dict(weights), (part,)) for part in parts])
