r"""Networks on the way of training on real images (NCFM).

An expert that starts at :math:`\theta_0` and ends at :math:`\theta_E` gives the network

.. math:: \theta = (1 - u) \theta_0 + u \theta_E, \qquad u \sim U(0, 1),

on the straight line between the two, or one of the points of its trajectory itself.

References:
    | Dataset Distillation with Neural Characteristic Function: A Minmax Perspective
    | (Wang et al., CVPR 2025), https://arxiv.org/abs/2502.20653

Differences from the paper: experts are few and small, trained when they are first drawn.
"""

from dataclasses import dataclass
from typing import final

import torch

from distill.checks import whole
from distill.condenser import State
from distill.expert import Experts
from distill.learned import Learned
from distill.network_sources import Networks, NetworkSource
from distill.networks import Network
from distill.pullback import Weights
from distill.real import RealData
from distill.rng import derive


@final
@dataclass(frozen=True)
class Snapshots(NetworkSource):
    """Experts while they are trained.

    Attributes:
        experts: Trained on the real images.
        steps: Steps that one network serves, >= 1; 1 in NCFM.
        interpolated: Whether networks lie between an expert's start and its end, as in NCFM;
            if not, they are points of its trajectory, the first among them.
    """

    experts: Experts
    steps: int
    interpolated: bool

    def __post_init__(self) -> None:
        whole("network_source.steps", self.steps, 1)

    def begin(self, real: RealData, state: State) -> Networks:
        """Returns the source at work; what it keeps are the experts trained so far."""
        return _Snapshots(self, real, state)


class _Snapshots(Networks):
    def __init__(self, source: Snapshots, real: RealData, state: State) -> None:
        self.source, self.real = source, real
        self.buffer = source.experts.begin(real, state)
        network = real.fresh(source.experts.architecture, "snapshot network")
        self.network = network.requires_grad_(False)

    def take(self, index: int, small: Learned) -> Network:  # noqa: ARG002
        rng = derive(self.real.seed, "snapshot", index // self.source.steps)
        self.network.load_state_dict(self._weights(rng))
        return self.network

    def _weights(self, rng: torch.Generator) -> Weights:
        number = int(torch.randint(self.source.experts.count, (1,), generator=rng))
        points = self.buffer.trajectory(number)
        if not self.source.interpolated:
            return points[int(torch.randint(len(points), (1,), generator=rng))]
        u = torch.rand(1, generator=rng).item()
        return {name: w.lerp(points[-1][name], u) for name, w in points[0].items()}

    def state(self) -> State:
        return self.buffer.state()
