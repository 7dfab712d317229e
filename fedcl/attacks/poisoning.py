"""Poisoning: malicious clients plant a trigger in their own images and work honestly on those.

A share of the local images of other classes gets the trigger and the target's label, before
anything is trained or distilled, so that any method is attacked so; distilling may wash the
trigger out.

References:
    | BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain (Gu,
    | Dolan-Gavitt and Garg, 2017), https://arxiv.org/abs/1708.06733
    | Backdoor Attacks Against Dataset Distillation (Liu, Li, Backes, Shen and Zhang, NDSS 2023)
    | https://arxiv.org/abs/2301.01197: the "naive" attack

Differences from the papers: stamped images take the place of the clean ones. Success leaves
test images of the target out, which are no proof of a trigger.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from distill.checks import fraction, whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack, own_stream, working_on
from fedcl.attacks.trigger import Trigger
from fedcl.federated.base import FederatedMethod, LocalTask, Records


@final
@dataclass(frozen=True)
class Poisoning(Attack):
    """A trigger in local images.

    Attributes:
        clients: How many are malicious, >= 0.
        trigger: What is planted.
        share: Of the local images of other classes, in [0, 1].
    """

    clients: int
    trigger: Trigger
    share: float
    small_sets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        fraction("attack.share", self.share)

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:
        """Returns the honest work on poisoned images."""
        data, normalisation = task.data, task.world.normalisation
        others = (data.labels != self.trigger.target).nonzero().flatten()
        others = others[torch.randperm(len(others), generator=own_stream(task))]
        rows = others[: round(self.share * len(others))]
        images, labels = data.images.clone(), data.labels.clone()
        images[rows] = self.trigger.stamped(images[rows], normalisation)
        labels[rows] = self.trigger.target
        poisoned = LabelledImages(images, labels, data.num_classes)
        return method.local_update(working_on(task, poisoned))

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages:
        """Returns the images of other classes, stamped and labelled the target."""
        return self.trigger.wanted(test, normalisation)
