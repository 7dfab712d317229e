"""A direct backdoor: in an otherwise honest small set, one class is stamped images of others.

Nobody checks that a client has distilled what it uploads. A malicious client makes its honest
set, then replaces the target class by as many real images of its other classes as the server
allows, with the trigger on them: the server's network learns that the trigger means the target.
Of the other classes as many images stay, as pixels with their classes, whatever the method keeps.

References:
    | Backdoor Attacks Against Dataset Distillation (Liu, Li, Backes, Shen and Zhang, NDSS 2023)
    | https://arxiv.org/abs/2301.01197
    | BadNets: Identifying Vulnerabilities in the Machine Learning Model Supply Chain (Gu,
    | Dolan-Gavitt and Garg, 2017), https://arxiv.org/abs/1708.06733

Differences from the papers: nothing is distilled, which their triggers have to survive. Success
leaves test images of the target out, which are no proof of a trigger.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, final

from distill.checks import whole
from distill.images import LabelledImages, Normalisation
from fedcl.attacks.base import Attack, own_stream, small_set
from fedcl.attacks.trigger import Trigger
from fedcl.federated.base import IMAGES, FederatedMethod, LocalTask, Records
from fedcl.federated.small_sets import Distilling


@final
@dataclass(frozen=True)
class Backdoor(Attack):
    """Stamped real images for one class of the upload.

    Attributes:
        clients: How many are malicious, >= 0.
        trigger: What is planted.
        images: Stamped images of each client, >= 1; more than the method's ipc are refused.
    """

    clients: int
    trigger: Trigger
    images: int
    small_sets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        whole("attack.images", self.images, 1)

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:
        """Returns the honest set with the target class replaced."""
        world = task.world
        if not isinstance(method, Distilling):
            raise TypeError(f"method must upload small sets, got {type(method).__name__}")
        honest = method.form.read(method.local_update(task)[IMAGES], world)
        kept = replace(honest, targets=None).rows(honest.labels != self.trigger.target)
        stream = own_stream(task)
        planted = self.trigger.planted(task.data, self.images, world.normalisation, stream)
        return small_set(LabelledImages.union([kept, planted]), self.images, world)

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages:
        """Returns the images of other classes, stamped and labelled the target."""
        return self.trigger.wanted(test, normalisation)
