"""A run on Flower's own runtimes: started with ``flwr run``, watched, read, and cleared away."""

import json
import shutil
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from experiments.backends.base import Backend, Composition, Federation
from experiments.backends.processes import FlowerRunError, Processes
from experiments.backends.results import CLIENTS, Results
from experiments.forecast import Forecast
from experiments.scenarios.base import Folder, Progress, Run, Steps

APP = Path(__file__).parents[1] / "flower_app"
CONNECTION = "fedcl"  # what Flower's configuration calls the SuperLink of this run
FINISHED, COMPLETED = "finished", "finished:completed"  # what Flower says of a run
NO_DETAILS = "N/A"
PAUSE = 0.5  # seconds between two looks at the results
SELDOM = 15.0  # seconds between two questions to the SuperLink, each of which starts a process


@final
@dataclass(frozen=True)
class Link:
    """A SuperLink as ``flwr run`` reaches it.

    Attributes:
        address: ``host:port``.
        root_certificates: File that its certificate is checked by; None: no TLS.
        simulation: Flower's federation configuration for a simulation; None for SuperNodes.
    """

    address: str
    root_certificates: str | None = None
    simulation: str | None = None

    def configuration(self) -> str:
        """Returns Flower's configuration file, which knows this SuperLink only."""
        security = "insecure = true"
        if self.root_certificates is not None:
            security = f"root-certificates = {_quoted(str(Path(self.root_certificates).resolve()))}"
        return (
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f"address = {_quoted(self.address)}\n{security}\n"
        )


class Runtime(Backend):
    """A back end that is reached through a SuperLink."""

    @abstractmethod
    def connect(self, processes: Processes, clients: int) -> Link:
        """Returns the SuperLink of the run, and starts what isn't there.

        Raises:
            FlowerRunError: If it can't be had.
        """


@final
@dataclass(frozen=True)
class FlowerRun(Run):
    """A federation whose clients are Flower's.

    Attributes:
        runtime: Where they are.
        federation: The run as it would be in this process.
        composition: What composes it on the nodes.
        folder: Flower's home, logs and results; gone once the run has completed.
    """

    runtime: Runtime
    federation: Federation
    composition: Composition
    folder: Path

    def steps(self, folder: Folder) -> Steps:
        """Yields progress until the run has ended, and returns what it left in files.

        Raises:
            FlowerRunError: If it ends in any other way than completed.
        """
        place = self.folder.resolve()
        results = Results(place / "results", self.federation.resumable)
        state = results.load_checkpoint()
        shutil.rmtree(place, ignore_errors=True)
        results.path.mkdir(parents=True)
        if state is not None:
            results.save_checkpoint(state)
        with Processes(place) as processes:
            link = self.runtime.connect(processes, len(self.federation.world.clients))
            (processes.home / "config.toml").write_text(link.configuration())
            flower = Submitted.by(processes, link, self._run_config(results))
            try:
                for progress in flower.watched(results):
                    if results.resumable:
                        folder.save_checkpoint({})  # of the seconds so far
                    yield progress
            finally:
                folder.write_lines(CLIENTS, results.clients())
        outcome = results.outcome(self.federation.world.num_classes)
        shutil.rmtree(place)
        return outcome

    def forecast(self) -> Forecast:
        """Returns that of the federation in one process."""
        return self.federation.forecast()

    def _run_config(self, results: Results) -> Mapping[str, str]:
        return {
            "scenario": self.composition.scenario,
            "overrides": self.composition.overrides,
            "results": str(results.path),
        }


@final
@dataclass(frozen=True)
class Submitted:
    """A run that Flower has taken.

    Attributes:
        processes: What was started for it.
        number: Flower's id of the run.
    """

    processes: Processes
    number: str

    @classmethod
    def by(cls, processes: Processes, link: Link, run_config: Mapping[str, str]) -> "Submitted":
        """Submits the app and returns its run.

        Raises:
            FlowerRunError: If Flower refuses.
        """
        file = processes.folder / "run.toml"
        file.write_text("".join(f"{key} = {_quoted(text)}\n" for key, text in run_config.items()))
        command = ["flwr", "run", str(APP), CONNECTION, "--run-config", str(file)]
        if link.simulation is not None:
            command += ["--federation-config", link.simulation]
        answer = _answer(processes.call([*command, "--format", "json"]), "flwr run")
        return cls(processes, str(answer["run-id"]))

    def watched(self, results: Results) -> Iterator[Progress]:
        """Yields progress until the run has completed.

        A run on a SuperLink that others own is stopped there if nobody waits for it any more.

        Raises:
            FlowerRunError: If it fails.
        """
        status, details = "", ""
        try:
            asked = time.perf_counter()
            while not status.startswith(FINISHED):
                self.processes.check()
                yield results.progress() or Progress(0, 1, "Flower starts")
                time.sleep(PAUSE)
                if results.ended() or time.perf_counter() - asked > SELDOM:
                    (status, details), asked = self.status(), time.perf_counter()
        finally:
            if not (status.startswith(FINISHED) or self.processes.started):
                self.processes.call(["flwr", "stop", self.number, CONNECTION])
        self._check(status, details, results)

    def status(self) -> tuple[str, str]:
        """Returns what Flower says of the run, as ``finished:completed``, and details, if any."""
        command = ["flwr", "list", CONNECTION, "--run-id", self.number, "--format", "json"]
        (row,) = _answer(self.processes.call(command), "flwr list")["runs"]
        details = "" if row["status-details"] == NO_DETAILS else str(row["status-details"])
        return str(row["status"]), " ".join(details.split())

    def _check(self, status: str, details: str, results: Results) -> None:
        reason = results.reason()
        if reason is None and status == COMPLETED and results.ended():
            return
        words = self.processes.call(["flwr", "log", self.number, CONNECTION, "--show"])
        log = self.processes.log("app")
        log.write_text(words)
        if reason is not None:
            raise FlowerRunError(f"{reason}; see {log}")
        if status != COMPLETED:
            got = f"{status}, {details}".strip(", ")
            raise FlowerRunError(f"the run must end as {COMPLETED}, got {got}; see {log}")
        raise FlowerRunError(
            f"results must lie in {results.path}, got none; output= must name a folder that the "
            "SuperLink's machine shares"
        )


def _answer(text: str, command: str) -> dict[str, Any]:
    """Returns the JSON that a command of Flower printed.

    Raises:
        FlowerRunError: If it says that the command failed, or isn't JSON.
    """
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"error-message": text or "nothing"}
    if not answer.get("success"):
        said = " ".join(str(answer.get("error-message")).split())
        raise FlowerRunError(f"{command} must succeed, got {said}")
    return dict(answer)


def _quoted(text: str) -> str:
    """Returns a TOML string; those of JSON are TOML's, too, if no character is escaped in two."""
    return json.dumps(text, ensure_ascii=False)
