"""Ray as the back end: a SuperLink of this run's own, whose clients are simulated on Ray.

A Ray cluster that runs already is used where ``RAY_ADDRESS`` names it.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import final

from distill.checks import whole
from experiments.backends.base import Composition, Federation
from experiments.backends.flower import FlowerRun, Link, Runtime
from experiments.backends.processes import Processes, free_port
from experiments.errors import CommandError
from experiments.scenarios.base import Run

START_SECONDS = 60.0


@final
@dataclass(frozen=True)
class Ray(Runtime):
    """Clients in worker processes of Ray.

    Attributes:
        client_cpus: Cores of one worker, >= 1.
        cpus: Cores that Ray may use, >= ``client_cpus``; None: all, or those of the cluster.
    """

    client_cpus: int
    cpus: int | None

    def __post_init__(self) -> None:
        whole("backend.client_cpus", self.client_cpus, 1)
        if self.cpus is not None:
            whole("backend.cpus", self.cpus, self.client_cpus)

    def place(self, federation: Federation, composition: Composition, folder: Path) -> Run:
        """Returns the run with its clients on Ray.

        Raises:
            CommandError: If Ray isn't installed.
        """
        if find_spec("ray") is None:
            raise CommandError(
                "backend=ray must find Ray, got none; install it with pip install -e '.[ray]'"
            )
        return FlowerRun(self, federation, composition, folder)

    def connect(self, processes: Processes, clients: int) -> Link:
        """Returns a SuperLink for simulations, started here.

        Raises:
            FlowerRunError: If it doesn't start.
        """
        port = free_port()
        command = ["flower-superlink", "--insecure", "--simulation", "--host", "127.0.0.1"]
        processes.start("superlink", [*command, "--port", str(port)])
        processes.wait_for(port, START_SECONDS)
        return Link(f"127.0.0.1:{port}", simulation=self._simulation(clients))

    def _simulation(self, clients: int) -> str:
        words = [f"num-supernodes={clients}", f"client-resources-num-cpus={self.client_cpus}"]
        if self.cpus is not None:
            words.append(f"init-args-num-cpus={self.cpus}")
        return " ".join(words)
