r"""Leave one out: a client without whom the server learns better is set aside.

With :math:`\ell` the loss on the server's own validation images of a network trained on the
union of all sets, and :math:`\ell_{-k}` that without client k's, the harm of client k is
:math:`\ell - \ell_{-k}`; who does harm, and stands out by more robust deviations than the
threshold (:func:`fedcl.defences.blocks.standing_out`), is set aside.

References:
    | Understanding Black-Box Predictions via Influence Functions (Koh and Liang, ICML 2017)
    | https://arxiv.org/abs/1703.04730: leaving out as what influence approximates
    | Zeno: Distributed Stochastic Gradient Descent with Suspicion-based Fault-tolerance (Xie,
    | Koyejo and Gupta, ICML 2019), https://arxiv.org/abs/1805.10032: scores on the server's data

Differences from the papers: networks are trained anew, one more than there are clients. A
backdoor does no harm to clean images, and is not seen so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch

from distill.checks import positive
from distill.images import LabelledImages
from distill.rng import derive
from distill.training import Recipe, score, train
from fedcl.defences.base import Defence, Evidence
from fedcl.defences.blocks import standing_out


@final
@dataclass(frozen=True)
class LeaveOneOut(Defence):
    """Clients that do harm on validation images.

    Attributes:
        recipe: How each network is trained.
        threshold: Robust deviations from which on a harm stands out, > 0.
    """

    recipe: Recipe
    threshold: float
    needs_validation: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("defence.threshold", self.threshold)

    def rejected(self, evidence: Evidence) -> Mapping[int, str]:
        """Returns the clients whose harm stands out; of a single client, nothing can be said."""
        clients = sorted(evidence.sets)
        if len(clients) < 2:
            return {}
        loss = self._loss(evidence, clients)
        harms = [loss - self._loss(evidence, [j for j in clients if j != k]) for k in clients]
        scores = standing_out(torch.tensor(harms)).tolist()
        return {
            k: f"the loss is {harm:.3f} lower without it, {deviations:.1f} deviations off the rest"
            for k, harm, deviations in zip(clients, harms, scores, strict=True)
            if harm > 0 and deviations > self.threshold
        }

    def _loss(self, evidence: Evidence, clients: list[int]) -> float:
        world, server = evidence.server.world, evidence.server
        network = world.network_with(server.weights)
        union = LabelledImages.union([evidence.sets[k] for k in clients])
        train(network, union, self.recipe, derive(world.seed, "defence", "round", server.round))
        return score(network, evidence.validation)[1]
