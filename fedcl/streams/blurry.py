r"""Blurry streams: most of an experience is of its own classes, some of it of all others.

Of the :math:`n_c` training images of class c, :math:`\lfloor b\, n_c \rfloor` leave the experience
of that class, and are dealt evenly to the others; so each image comes once. Where experiences have
equally many images, a share b of each is of classes of the others. Test images are those of the
experience's own classes.

References:
    | Rainbow Memory: Continual Learning with a Memory of Diverse Samples (Bang, Kim, Yoo, Ha and
      Choi, CVPR 2021), https://arxiv.org/abs/2103.17230: Blurry-M, of which b is M / 100

Differences from the paper: the order of classes and what leaves are drawn by the seed; the
paper's are lists that come with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from distill.checks import below_one, whole
from distill.images import LabelledImages
from distill.rng import derive
from fedcl.streams.base import Excerpt, Experience, Stream, experience_rows, in_groups


@final
@dataclass(frozen=True)
class Blurry(Stream):
    """Each experience brings new classes, and a few images of all others.

    Attributes:
        experiences: Number of experiences, in [2, num_classes].
        share: b, of each class's training images, come in other experiences; in [0, 1).
    """

    experiences: int
    share: float

    def __post_init__(self) -> None:
        whole("stream.experiences", self.experiences, 2)
        below_one("stream.share", self.share)

    @property
    def tells_tasks(self) -> bool:
        """No: an image may be of another experience's class."""
        return False

    def divide(self, train: LabelledImages, test: LabelledImages, seed: int) -> list[Experience]:
        """Returns the experiences.

        The order of classes is drawn from the stream "class order", as class-incremental
        streams draw it, and which images leave from "blur".
        """
        drawn = torch.randperm(train.num_classes, generator=derive(seed, "class order"))
        groups = in_groups(drawn, self.experiences)
        owners = self._owners(train.labels.cpu(), groups, derive(seed, "blur"))
        return [
            Experience(
                Excerpt(train, (owners == index).nonzero().squeeze(1)),
                Excerpt(test, experience_rows(test.labels, classes)),
                classes,
            )
            for index, classes in enumerate(groups)
        ]

    def _owners(
        self, labels: Tensor, groups: Sequence[Sequence[int]], rng: torch.Generator
    ) -> Tensor:
        """Returns the experience of each image, int64, ``(N,)``."""
        owners = torch.empty_like(labels)
        for index, classes in enumerate(groups):
            leaving = []
            for label in classes:
                rows = (labels == label).nonzero().squeeze(1)
                owners[rows] = index
                drawn = torch.randperm(len(rows), generator=rng)
                leaving.append(rows[drawn[: int(self.share * len(rows))]])
            away = torch.cat(leaving)
            owners[away] = (index + 1 + torch.arange(len(away)) % (len(groups) - 1)) % len(groups)
        return owners
