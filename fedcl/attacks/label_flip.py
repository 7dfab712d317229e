r"""Label flipping: malicious clients call one class by another's name and work honestly on that.

With :math:`y` the class of a local image, s the source and t the target,
:math:`y \leftarrow t` where :math:`y = s`. Success is the share of test images of class s
that are answered by t.

References:
    | Data Poisoning Attacks Against Federated Learning Systems (Tolpegin, Truex, Gursoy and
    | Liu, ESORICS 2020), https://arxiv.org/abs/2007.08432

Differences from the paper: none. Any method is attacked so, as only labels change.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

import torch

from distill.checks import whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack, check_label, working_on
from fedcl.federated.base import FederatedMethod, LocalTask, Records


@final
@dataclass(frozen=True)
class LabelFlip(Attack):
    """Labels of one class changed to another's.

    Attributes:
        clients: How many are malicious, >= 0.
        source: The class whose images are renamed, >= 0.
        target: What they are called, >= 0.
    """

    clients: int
    source: int
    target: int
    small_sets: ClassVar[bool] = False

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        whole("attack.source", self.source, 0)
        whole("attack.target", self.target, 0)
        if self.source == self.target:
            raise ValueError(f"attack.target must be another class than {self.source}, its source")

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:
        """Returns the honest work on renamed images."""
        labels = task.data.labels
        flipped = torch.where(labels == self.source, self.target, labels)
        return method.local_update(working_on(task, replace(task.data, labels=flipped)))

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages:  # noqa: ARG002
        """Returns the images of the source, labelled the target."""
        check_label("attack.source", self.source, test.num_classes)
        check_label("attack.target", self.target, test.num_classes)
        own = test.rows((test.labels == self.source).nonzero().flatten())
        return replace(own, labels=torch.full_like(own.labels, self.target))
