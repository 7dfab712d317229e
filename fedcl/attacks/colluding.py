"""Colluding clients: several upload one backdoor set that they made together, all but identical.

They pool their images, draw real ones of each class and stamped ones for the target class, once,
and each adds a little noise, so that no two uploads are equal bytes. A filter that trusts
whoever has close neighbours, as Krum does, trusts them first.

References:
    | The Hidden Vulnerability of Distributed Learning in Byzantium (El Mhamdi, Guerraoui and
    | Rouault, ICML 2018), https://arxiv.org/abs/1802.07927: attackers that agree among them
    | The Sybil attack of Mitigating Sybils in Federated Learning Poisoning (Fung, Yoon and
    | Beschastnikh, 2018), https://arxiv.org/abs/1808.04866

Differences from the papers: small sets are sent, and no gradients.
"""

from dataclasses import dataclass
from typing import ClassVar, final

import torch

from distill.checks import at_least, whole
from distill.images import LabelledImages, Normalisation
from distill.rng import derive
from fedcl.attacks.base import Attack, malicious, own_stream, small_set
from fedcl.attacks.trigger import Trigger
from fedcl.federated.base import FederatedMethod, LocalTask, Records


@final
@dataclass(frozen=True)
class Colluding(Attack):
    """One backdoor set of several clients.

    Attributes:
        clients: How many are malicious, >= 0.
        trigger: What is planted.
        images: Images of each class, >= 1; more than the method's ipc are refused.
        jitter: Standard deviation of each client's noise, in normalised pixels, >= 0.
    """

    clients: int
    trigger: Trigger
    images: int
    jitter: float
    small_sets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("attack.clients", self.clients, 0)
        whole("attack.images", self.images, 1)
        at_least("attack.jitter", self.jitter, 0)

    def upload(self, method: FederatedMethod, task: LocalTask) -> Records:  # noqa: ARG002
        """Returns the common set with this client's noise."""
        world, rng = task.world, derive(task.world.seed, "attack")
        colluders = malicious(self.clients, world)
        pool = LabelledImages.union([world.clients[k][task.experience] for k in colluders])
        pool = pool.rows(torch.randperm(len(pool), generator=rng))
        planted = self.trigger.planted(pool, self.images, world.normalisation, rng)
        both = LabelledImages.union([pool.rows(pool.labels != self.trigger.target), planted])
        noise = torch.randn(both.images.shape, generator=own_stream(task)) * self.jitter
        images = both.images + noise.to(both.images.device)
        noisy = LabelledImages(images, both.labels, both.num_classes)
        return small_set(noisy, self.images, world)

    def wanted(self, test: LabelledImages, normalisation: Normalisation) -> LabelledImages:
        """Returns the images of other classes, stamped and labelled the target."""
        return self.trigger.wanted(test, normalisation)
