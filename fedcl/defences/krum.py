r"""Multi-Krum: the clients whose sets have the farthest nearest neighbours are set aside.

Of K clients, f of them assumed to attack, client k's score is the mean of its
:math:`K - f - 2` smallest distances to others, and the f highest scores are set aside. With
:math:`g_{kc}` the mean gradient that client k's :math:`n_{kc}` images of class c induce on the
global network, and :math:`s_c^2` the median of their variance,

.. math:: d(j, k) = \max_c \frac{\|g_{jc} - g_{kc}\|^2}{s_c^2 (1 / n_{jc} + 1 / n_{kc})}

over the classes c that both have.

References:
    | Machine Learning with Adversaries: Byzantine Tolerant Gradient Descent (Blanchard, El
    | Mhamdi, Guerraoui and Stainer, NeurIPS 2017)

Differences from the paper: clients send images and the server takes their gradients. Distances
are taken class by class and in units of their sampling error, and the largest counts: between
whole sets, labels would decide, and a backdoor in one of ten classes is a tenth of the distance.
The mean of the smallest distances, not the sum, as clients without a common class have none.
Whoever shares no class with anybody is kept. As in the paper, f clients go, attack or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from distill.checks import whole
from fedcl.defences.base import Defence, Evidence
from fedcl.defences.blocks import Represent, Sets, blocks
from fedcl.defences.induced import induced_gradients


@final
@dataclass(frozen=True)
class Krum(Defence):
    """The f clients that are farthest from their neighbours.

    Attributes:
        attackers: f, >= 1; 2 f + 2 < K. Where clients fail or come too late, f falls with K.
    """

    attackers: int
    needs_spread: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole("defence.attackers", self.attackers, 1)

    def check_uploads(self, uploads: int) -> None:
        """Refuses too few for as many attackers.

        Raises:
            ValueError: If so.
        """
        if not 2 * self.attackers + 2 < uploads:
            raise ValueError(
                f"defence.attackers must be < {uploads / 2 - 1:g}, half of the "
                f"{uploads} uploads less one, got {self.attackers}"
            )

    def rejected(self, evidence: Evidence) -> Mapping[int, str]:
        """Returns the f clients of the highest scores, fewer where too few sets came for f."""
        clients = sorted(evidence.sets)
        attackers = min(self.attackers, (len(clients) - 3) // 2)
        if attackers < 1:
            return {}
        apart = distances(evidence.sets, induced_gradients(evidence.server))
        scores = {k: _score(apart[i], attackers) for i, k in enumerate(clients)}
        highest = sorted(clients, key=lambda k: scores[k])[-attackers:]
        return {
            k: f"its nearest neighbours lie {scores[k]:.1f} sampling errors off, among the "
            f"{attackers} farthest"
            for k in highest
            if scores[k] > 0
        }


def _score(row: Tensor, attackers: int) -> float:
    known = row[row.isfinite()].sort().values[: len(row) - attackers - 2]
    return known.mean().item() if len(known) else 0.0


def distances(sets: Sets, represent: Represent) -> Tensor:
    """Returns d(j, k), ``(K, K)``; infinite to oneself and to whom no class is shared with.

    Args:
        sets: Small sets by client, normalised; rows are in the order of the clients' numbers.
        represent: Turns images into vectors.
    """
    place = {client: i for i, client in enumerate(sorted(sets))}
    apart = torch.full((len(place), len(place)), -torch.inf)
    for block in blocks(sets, represent):
        rows = torch.tensor([place[client] for client in block.clients])
        errors = block.variance * (1 / block.counts.unsqueeze(0) + 1 / block.counts.unsqueeze(1))
        squares = torch.stack([(block.means - mean).square().sum(1) for mean in block.means])
        at = (rows.unsqueeze(1), rows.unsqueeze(0))
        apart[at] = apart[at].maximum((squares / errors).cpu())
    return apart.fill_diagonal_(torch.inf).masked_fill(apart == -torch.inf, torch.inf)
