r"""One shot: every client uploads one small set; the server trains on their union.

    1. The server asks; no weights go down.
    2. Client :math:`k` makes :math:`S_k`, up to ``ipc`` images of each class it has, or what
       their numbers pay for, by any ``method=``, and uploads it once, a byte a number.
    3. The server checks each :math:`S_k` and trains a fresh network on
       :math:`S = \bigcup_k S_k`.

References:
    | Distilled One-Shot Federated Learning (Zhou, Pu, Ma, Li and Wu, 2020)
    | https://arxiv.org/abs/2009.07999
    | Federated Learning via Decentralized Dataset Distillation in Resource-Constrained Edge
    | Environments (FedD3; Song et al., IJCNN 2023), https://arxiv.org/abs/2208.11311

Differences from the papers: the small sets are images, usable with any network, with classes
or with labels for the server's loss; step sizes that were learned stay behind. DOSFL distils a
sequence of steps for one initial network (dosfl.py), and FedD3 uses kernel inducing points,
which are one more ``method=``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, final

from distill.checks import whole
from distill.condenser import Condenser, Task
from distill.rng import derive
from distill.training import Recipe, train
from distill.work import Work, training
from fedcl.federated.base import LocalTask, Records, ServerTask, Upload
from fedcl.federated.forms import Form
from fedcl.federated.small_sets import Distilling, check_small_set, union, wanted_by
from fedcl.wire import pack_weights


@final
@dataclass(frozen=True)
class OneShot(Distilling):
    """One upload of a small set.

    Attributes:
        method: Makes the small set.
        ipc: Images per class and client, >= 1; fewer where a client has fewer real ones. Where
            images are decoded, their numbers pay for more.
        server: How the server trains on the union.
        rounds: One.
    """

    method: Condenser
    ipc: int
    server: Recipe
    rounds: int = field(default=1, init=False)
    vectors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        whole("ipc", self.ipc, 1)
        Form(self.method, self.server)  # refuses sets that can't be sent

    @property
    def form(self) -> Form:
        """Pixels or numbers, and labels that the server's loss can use."""
        return Form(self.method, self.server)

    def broadcast(self, server: ServerTask) -> Records:  # noqa: ARG002
        """Returns nothing: a client needs no weights."""
        return {}

    def wanted(self, task: LocalTask) -> Task:
        """Returns all images of the client, and ``ipc`` of each class."""
        return self.form.paid(wanted_by(task, self.ipc), self.ipc)

    def check(self, upload: Upload, server: ServerTask) -> None:
        """Refuses all but a small set that ``ipc`` images of each class pay for."""
        check_small_set(upload, server.world, self.form, self.ipc)

    def serve(self, server: ServerTask, uploads: Iterable[Upload]) -> tuple[ServerTask, list[Work]]:
        """Returns the task as it is, and the training on the union."""
        network, data = server.world.first_network, union(uploads, server.world, self.form).data
        return server, [training("server training", network, data, self.server)]

    def aggregate(self, server: ServerTask, uploads: Iterable[Upload]) -> ServerTask:
        """Returns the task with the union, and with weights trained on it from scratch."""
        world = server.world
        memory, network = union(uploads, world, self.form), world.first_network()
        train(network, memory.data, self.server, derive(world.seed, "server training"))
        return replace(server, weights=pack_weights(network), memory=memory)
