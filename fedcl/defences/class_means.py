r"""Class means: a client whose images of a class look unlike all others' is set aside.

Vectors are the features of T random networks :math:`\psi_t`, one beside the other; what
stands out, and by how much, is in :mod:`fedcl.defences.blocks`. A block of stamped images of
other classes has their mean, not the target's, however small the trigger.

References:
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, WACV 2023)
    | https://arxiv.org/abs/2110.04181: random networks tell class means apart
    | Auror: Defending Against Poisoning Attacks in Collaborative Deep Learning Systems (Shen,
    | Tople and Saxena, ACSAC 2016): what most clients agree on

Differences from the papers: the filter is ours; neither paper has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from distill.checks import positive, whole
from distill.networks import fresh
from distill.rng import derive
from fedcl.defences.base import Defence, Evidence
from fedcl.defences.blocks import outlying


@final
@dataclass(frozen=True)
class ClassMeans(Defence):
    """Outliers among class means of random features.

    Attributes:
        networks: T, >= 1.
        threshold: Robust deviations from which on a block stands out, > 0.
    """

    networks: int
    threshold: float
    needs_spread: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("defence.networks", self.networks, 1)
        positive("defence.threshold", self.threshold)

    def rejected(self, evidence: Evidence) -> Mapping[int, str]:
        """Returns the clients with a class that stands out."""
        world = evidence.server.world
        networks = [
            fresh(
                world.architecture,
                world.image_shape,
                world.num_classes,
                derive(world.seed, "defence", t),
            ).to(world.device)
            for t in range(self.networks)
        ]

        @torch.inference_mode()
        def features(images: Tensor, label: int) -> Tensor:  # noqa: ARG001
            return torch.cat([network.embed(images) for network in networks], 1)

        return outlying(evidence.sets, features, self.threshold)
