r"""Networks around given weights (FedDM): what a client's set is to be good for, and its vicinity.

From given weights :math:`\hat\theta`, the global model of a federated round, the network of a
step lies in a random direction at the distance :math:`\rho`,

.. math:: \theta = \hat\theta + \rho \frac{z}{\|z\|_2}, \qquad z \sim N(0, I) .

References:
    | FedDM: Iterative Distribution Matching for Communication-Efficient Federated Learning
    | (Xiong et al., CVPR 2023), https://arxiv.org/abs/2207.09653

Differences from the paper: it draws from the whole ball; here, as in released code, from its
surface, where all but a vanishing part of a ball of so many dimensions lies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import Tensor

from distill.checks import at_least, whole
from distill.condenser import State
from distill.given import check_all_alike
from distill.learned import Learned
from distill.network_sources import Networks, NetworkSource
from distill.networks import Architecture, ImageShape, Network
from distill.pullback import Weights
from distill.real import RealData
from distill.rng import derive
from distill.tensor_file import read_tensors


@final
@dataclass(frozen=True)
class AroundGiven(NetworkSource):
    r"""Networks at a distance from given ones.

    Attributes:
        architecture: What they are.
        weights: :math:`\hat\theta` by name, or the safetensors file that keeps them; None: the
            last weights that the task gives.
        radius: :math:`\rho`, >= 0; 5 in FedDM. At 0 every step sees the given network.
        steps: Steps that one network serves, >= 1.
    """

    architecture: Architecture
    weights: Mapping[str, Tensor] | str | None
    radius: float
    steps: int
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("network_source.radius", self.radius, 0)
        whole("network_source.steps", self.steps, 1)

    def begin(self, real: RealData, state: State) -> Networks:  # noqa: ARG002
        """Returns the source at work; it leaves nothing to keep.

        Raises:
            ValueError: If the weights aren't there, or are of another network.
        """
        self.check_given(real.given, real.image_shape, real.num_classes)
        return _Around(self, real)

    def check_given(self, given: Sequence[Weights], image_shape: ImageShape, classes: int) -> None:
        """Refuses a task that gives no network, where no file does, and one of another kind.

        Raises:
            ValueError: If the weights aren't there, or are of another network.
        """
        all_given = [self.used(given)]
        check_all_alike("network_source", all_given, self.architecture, image_shape, classes)

    def used(self, given: Sequence[Weights]) -> Weights:
        """Returns the weights, read where they are kept in a file.

        Args:
            given: Those that the task gives, oldest first.

        Raises:
            ValueError: If there is no such file, or it is none, or no weights are given at all.
        """
        if isinstance(self.weights, str):
            return read_tensors("network_source.weights", Path(self.weights))[0]
        if self.weights is None and not given:
            raise ValueError(
                "network_source.weights must be a safetensors file of a network's weights where "
                "the task gives none, got null"
            )
        return given[-1] if self.weights is None else self.weights


class _Around(Networks):
    def __init__(self, source: AroundGiven, real: RealData) -> None:
        self.source, self.real, self.given = source, real, source.used(real.given)
        network = real.shared(source.architecture, "network around")
        self.network = network.requires_grad_(False)

    def take(self, index: int, small: Learned) -> Network:  # noqa: ARG002
        rng = derive(self.real.networks, "around", index // self.source.steps)
        names = [name for name, _ in self.network.named_parameters()]  # a file's order is another
        z = {name: torch.randn(self.given[name].shape, generator=rng) for name in names}
        length = torch.stack([part.square().sum() for part in z.values()]).sum().sqrt()
        factor = self.source.radius / length
        self.network.load_state_dict(
            {name: w + (factor * z[name]).to(w) for name, w in self.given.items()}
        )
        return self.network

    def state(self) -> State:
        return {}
