r"""DynaFed: the server distils the way of the global network, and mends every later average.

    1. For :math:`L` rounds clients and server do as in FedAvg, and the server keeps the global
       weights :math:`w_0, \dots, w_L`.
    2. After round :math:`L` the server makes a small set :math:`S`, training on which leads from
       any of them to the next ones. No client sends anything for it.
    3. From then on the server averages as in FedAvg and trains the mean on :math:`S` for a
       while; the clients start at what comes out.

References:
    | DynaFed: Tackling Client Data Heterogeneity with Global Dynamics (Pi, Zhang, Xie, Gao, Wang,
    | Kim and Chen, CVPR 2023), https://arxiv.org/abs/2211.10878

Differences from the paper: round :math:`L` itself is mended, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

from distill.checks import whole
from distill.condenser import Condenser, condense
from distill.coresets import Random
from distill.engine import Distillation
from distill.given import stand_ins
from distill.objectives.base import Objective
from distill.objectives.given_trajectory import GivenTrajectory
from distill.objectives.unrolled import Unrolled
from distill.rng import derive, subseed
from distill.synthetic import SyntheticSet
from distill.training import Recipe, train
from distill.work import Work, condensing, training
from fedcl.federated.averaging import check_network, sketched, trained, weighted_mean
from fedcl.federated.base import (
    MODEL,
    FederatedMethod,
    LocalTask,
    Records,
    ServerTask,
    Sketch,
    Upload,
)
from fedcl.federated.small_sets import check_without_real, without_images
from fedcl.wire import pack_weights


@final
@dataclass(frozen=True)
class DynaFed(FederatedMethod):
    """Federated averaging, mended by a set that the server distils from the averages.

    Attributes:
        rounds: Rounds of communication, >= 1.
        local: How a client trains in one round.
        collecting: L, rounds before the server distils, in 1..rounds; 25 in the paper.
        method: Makes the small set from a given trajectory, and noise for images.
        ipc: Images of each class, >= 1; 15 in the paper.
        mending: How the mean is trained on the set after each round.
    """

    rounds: int
    local: Recipe
    collecting: int
    method: Condenser
    ipc: int
    mending: Recipe
    set_by: ClassVar[Literal["clients", "server"]] = "server"
    vectors: ClassVar[tuple[str, ...]] = (MODEL,)

    def __post_init__(self) -> None:
        whole("rounds", self.rounds, 1)
        whole("federated.collecting", self.collecting, 1)
        whole("ipc", self.ipc, 1)
        if self.collecting > self.rounds:
            raise ValueError(
                f"federated.collecting must be <= rounds={self.rounds}, got {self.collecting}"
            )
        check_without_real(self.method)
        if isinstance(self.method, Distillation):
            self._check_objective(self.method.objective)

    @property
    def gives(self) -> int:
        """The points of the trajectory."""
        return self.collecting + 1

    def _check_objective(self, objective: Objective) -> None:
        terminal = objective.terminal if isinstance(objective, Unrolled) else None
        if not isinstance(terminal, GivenTrajectory):
            raise ValueError(
                "method must match a given trajectory for dynafed, whose server has no image; take "
                "method=mtt, without objective="
            )
        if terminal.span > self.collecting:
            raise ValueError(
                f"objective.terminal.span must be <= federated.collecting={self.collecting}, the "
                f"steps of the trajectory, got {terminal.span}"
            )

    def broadcast(self, server: ServerTask) -> Records:
        """Returns the global weights."""
        return {MODEL: server.weights}

    def local_update(self, task: LocalTask) -> Records:
        """Returns the weights after local training."""
        return trained(task, self.local)

    def sketch(self, task: LocalTask) -> Sketch:
        """Returns weights, and local training."""
        return sketched(task, self.local)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses weights of another shape or type, or that are not finite."""
        check_network(upload, server)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:  # noqa: ARG002
        """Returns the task with noise for a set, once there is one, and distilling and mending."""
        if server.round < self.collecting:
            return server, []
        start = server.weights.to_torch_state_dict()
        points = stand_ins(start, self.gives)
        task = without_images(server.world, self.ipc, server.world.seed, points)
        memory, network = condense(Random(), task), server.world.first_network
        work = [training("mending", network, memory.data, self.mending)]
        if server.round == self.collecting:
            work.append(condensing("server distilling", self.method, task))
        return replace(server, memory=memory), work

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the mean of the clients' weights, mended once there is a set."""
        averaged = replace(server, weights=weighted_mean(uploads))
        if server.round <= self.collecting:
            averaged = self._collected(server, averaged)
        if averaged.memory is None:
            return averaged
        return self._mended(averaged, averaged.memory)

    def _collected(self, before: ServerTask, after: ServerTask) -> ServerTask:
        """Returns the task with one more point, or with the set in the place of all points."""
        points = before.kept.get("trajectory") or [before.weights.to_torch_state_dict()]
        points = [*points, after.weights.to_torch_state_dict()]
        if after.round < self.collecting:
            return replace(after, kept={"trajectory": [dict(point) for point in points]})
        seed = subseed(after.world.seed, "server distilling")
        small = condense(self.method, without_images(after.world, self.ipc, seed, points))
        return replace(after, kept={}, memory=small)

    def _mended(self, server: ServerTask, small: SyntheticSet) -> ServerTask:
        network = server.world.network_with(server.weights)
        train(network, small.data, self.mending, derive(server.world.seed, "mending", server.round))
        return replace(server, weights=pack_weights(network))
