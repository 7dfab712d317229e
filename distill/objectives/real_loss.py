r"""The terminal of meta-learning (DD, RTP): how well does the trained network tell real images?

Training starts from fresh weights :math:`\theta_0`, and

.. math:: L = \frac{1}{B} \sum_{i=1}^{B} \mathrm{CE}(\theta_T; x_i, y_i)

over :math:`B` real images.

References:
    | Dataset Distillation (Wang et al., 2018), https://arxiv.org/abs/1811.10959
    | Remember the Past: Distilling Datasets into Addressable Memories for Neural Networks
    | (Deng and Russakovsky, NeurIPS 2022), https://arxiv.org/abs/2206.02916

Differences from the papers: weights start as torch does, where DD's code takes Xavier's.
"""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from distill.checks import whole
from distill.condenser import State
from distill.networks import Architecture, Network
from distill.objectives.unrolled import Ending, Terminal
from distill.pullback import Weights, weights_of
from distill.real import RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class RealLoss(Terminal):
    """Cross-entropy on real images.

    Attributes:
        architecture: The network that trains on the set.
        batch: Real images of each class, >= 1; all, where a class has fewer.
        chunk: Images whose graph is alive at once, >= 1.
    """

    architecture: Architecture
    batch: int
    chunk: int = 256

    def __post_init__(self) -> None:
        whole("objective.terminal.batch", self.batch, 1)
        whole("objective.terminal.chunk", self.chunk, 1)

    def begin(self, real: RealData, state: State) -> Ending:  # noqa: ARG002
        """Returns the terminal at work; it leaves nothing to keep."""
        return _Ending(self, real)


class _Ending(Ending):
    def __init__(self, terminal: RealLoss, real: RealData) -> None:
        self.terminal, self.real = terminal, real
        self.network: Network | None = None

    def start(self, index: int) -> tuple[Network, Weights]:
        self.network = self.real.fresh(self.terminal.architecture, "network", index)
        return self.network, weights_of(self.network)

    def end(self, index: int, weights: Weights) -> tuple[float, dict[str, Tensor]]:
        if self.network is None:
            raise RuntimeError("start must be called before end")
        batch = self.real.batch(self.terminal.batch, derive(self.real.seed, "terminal", index))
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        total = 0.0
        slopes = {name: torch.zeros_like(w) for name, w in weights.items()}
        for images, targets in zip(
            torch.split(batch.images, self.terminal.chunk),
            torch.split(batch.targets, self.terminal.chunk),
            strict=True,
        ):
            logits = functional_call(self.network, leaves, (images,))
            loss = F.cross_entropy(logits, targets, reduction="sum") / len(batch.images)
            found = torch.autograd.grad(loss, list(leaves.values()))
            for slope, more in zip(slopes.values(), found, strict=True):
                slope += more
            total += loss.item()
        return total, slopes

    def state(self) -> State:
        return {}
