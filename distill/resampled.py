r"""Networks between a given one and fresh ones (FedAF).

From given weights :math:`w`, the global model of a federated round, and those of a fresh network
:math:`\tilde w`, the network of a step is

.. math:: \gamma w + (1 - \gamma) \tilde w .

References:
    | An Aggregation-Free Federated Learning for Tackling Data Heterogeneity (Wang, Fu,
    | Kanagavelu, Wei, Liu and Goh, CVPR 2024), https://arxiv.org/abs/2404.18962

Differences from the paper: none.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from distill.checks import fraction, whole
from distill.condenser import State
from distill.given import check_all_alike
from distill.learned import Learned
from distill.network_sources import Networks, NetworkSource
from distill.networks import Architecture, ImageShape, Network
from distill.pullback import Weights, weights_of
from distill.real import RealData


@final
@dataclass(frozen=True)
class Resampled(NetworkSource):
    r"""Mixtures of the task's last given network with fresh ones.

    Attributes:
        architecture: What they are.
        gamma: :math:`\gamma`, in [0, 1]; at 0 networks are fresh, at 1 the given one.
        steps: Steps that one network serves, >= 1.
    """

    architecture: Architecture
    gamma: float
    steps: int

    def __post_init__(self) -> None:
        fraction("network_source.gamma", self.gamma)
        whole("network_source.steps", self.steps, 1)

    def check_given(self, given: Sequence[Weights], image_shape: ImageShape, classes: int) -> None:
        """Refuses a task that gives no network, or one of another architecture last.

        Raises:
            ValueError: Saying so.
        """
        if not given:
            raise ValueError(
                "network_source=resampled must have a network to mix, which a federated round "
                "gives, got none; take network_source=fresh"
            )
        check_all_alike("network_source", given[-1:], self.architecture, image_shape, classes)

    def begin(self, real: RealData, state: State) -> Networks:  # noqa: ARG002
        """Returns the source at work; it leaves nothing to keep.

        Raises:
            ValueError: If the task gives no network, or one of another architecture.
        """
        self.check_given(real.given, real.image_shape, real.num_classes)
        return _Mixed(self, real)


class _Mixed(Networks):
    def __init__(self, source: Resampled, real: RealData) -> None:
        self.source, self.real, self.given = source, real, real.given[-1]

    def take(self, index: int, small: Learned) -> Network:  # noqa: ARG002
        source = self.source
        network = self.real.fresh(source.architecture, "network", index // source.steps)
        fresh = weights_of(network)
        network.load_state_dict(
            {name: w.lerp(self.given[name].to(w), source.gamma) for name, w in fresh.items()}
        )
        return network.requires_grad_(False)

    def state(self) -> State:
        return {}
