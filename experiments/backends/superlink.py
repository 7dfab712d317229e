"""A SuperLink with SuperNodes as the back end: one that runs, or one started on loopback."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from experiments.backends.base import Composition, Federation
from experiments.backends.flower import FlowerRun, Link, Runtime
from experiments.backends.processes import FlowerRunError, Processes, free_port, listens
from experiments.scenarios.base import Run

START_SECONDS = 60.0


@final
@dataclass(frozen=True)
class SuperLink(Runtime):
    """Clients on SuperNodes, one a client.

    Attributes:
        address: ``host:port`` of a SuperLink that runs; None: one is started on loopback, with a
            SuperNode for each client.
        root_certificates: File of certificates that the SuperLink's own is checked by, with an
            address only; None: no TLS.
    """

    address: str | None
    root_certificates: str | None

    def __post_init__(self) -> None:
        if self.address is not None:
            _host_and_port(self.address)
        elif self.root_certificates is not None:
            raise ValueError(
                "backend.root_certificates must be left out without backend.address, "
                f"got {self.root_certificates}"
            )

    def place(self, federation: Federation, composition: Composition, folder: Path) -> Run:
        """Returns the run with its clients on SuperNodes."""
        return FlowerRun(self, federation, composition, folder)

    def connect(self, processes: Processes, clients: int) -> Link:
        """Returns the SuperLink that runs, or one started here.

        Raises:
            FlowerRunError: If it isn't there, or doesn't start.
        """
        if self.address is None:
            return _started(processes, clients)
        if not listens(*_host_and_port(self.address)):
            raise FlowerRunError(
                f"backend.address must be that of a SuperLink that runs, got {self.address}, "
                "where nothing answers; start flower-superlink there"
            )
        return Link(self.address, self.root_certificates)


def _started(processes: Processes, clients: int) -> Link:
    port = free_port()
    address = f"127.0.0.1:{port}"
    host = ["--insecure", "--host", "127.0.0.1"]
    processes.start("superlink", ["flower-superlink", *host, "--port", str(port)])
    processes.wait_for(port, START_SECONDS)
    for client in range(clients):
        own = ["--port", str(free_port()), "--superlink", address]
        processes.start(f"supernode-{client}", ["flower-supernode", *host, *own])
    return Link(address)


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"backend.address must be host:port, got {address!r}")
    return host, int(port)
