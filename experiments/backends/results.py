"""A run's results as files: what a ServerApp writes, and the command that started it reads.

Nothing else comes back from a ServerApp, which may run in another process or on another
machine. Every file is written as a whole, ``outcome.json`` or ``error.txt`` as the last one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from safetensors.torch import load_file, save_file

from distill.images import LabelledImages
from distill.synthetic import SyntheticSet
from experiments.record import RunFolder, write_text
from experiments.scenarios.base import Outcome, Progress

OUTCOME, ERROR, PROGRESS = "outcome.json", "error.txt", "progress.json"
CLIENTS, SEEN = "clients.jsonl", "seen.safetensors"


@final
@dataclass(frozen=True)
class Results:
    """The folder of a run's results, from both sides.

    Attributes:
        path: An absolute path, which means the same folder on both sides.
        resumable: Whether the run can go on where it was: not where clients keep a state, which is
            on their nodes and ends with them.
    """

    path: Path
    resumable: bool = False

    def load_checkpoint(self) -> Mapping[str, Any] | None:
        """Returns what was saved last; None where nothing was."""
        return RunFolder(self.path).load_checkpoint()

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint, atomically, if the run can go on from it."""
        if self.resumable:
            RunFolder(self.path).save_checkpoint(state)

    def write_lines(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replaces a file of one JSON object a line, atomically."""
        RunFolder(self.path).write_lines(name, rows)

    def note(self, progress: Progress) -> None:
        """Says where the run stands."""
        write_text(self.path / PROGRESS, json.dumps(asdict(progress)))

    def finish(self, outcome: Outcome) -> None:
        """Writes what the run measured; no federation has pictures of its set's evolution."""
        RunFolder(self.path).write_images(outcome.synthetic, outcome.real)
        if outcome.seen:
            save_file({str(k): v.contiguous() for k, v in outcome.seen.items()}, self.path / SEEN)
        numbers = {"metrics": dict(outcome.metrics), "history": list(outcome.history)}
        write_text(self.path / OUTCOME, json.dumps(numbers))

    def fail(self, reason: str) -> None:
        """Says in a line why the run can't go on."""
        write_text(self.path / ERROR, reason)

    def ended(self) -> bool:
        """Whether the ServerApp has written its last file."""
        return (self.path / OUTCOME).exists() or (self.path / ERROR).exists()

    def reason(self) -> str | None:
        """Returns why the run failed, if its ServerApp could say so."""
        file = self.path / ERROR
        return file.read_text() if file.exists() else None

    def progress(self) -> Progress | None:
        """Returns what was noted last, if anything."""
        file = self.path / PROGRESS
        return Progress(**json.loads(file.read_text())) if file.exists() else None

    def clients(self) -> list[Mapping[str, Any]]:
        """Returns the rows of the clients so far."""
        file = self.path / CLIENTS
        lines = file.read_text().splitlines() if file.exists() else []
        return [json.loads(line) for line in lines]

    def outcome(self, num_classes: int) -> Outcome:
        """Returns what :meth:`finish` took.

        Args:
            num_classes: Of the task, for the real images that are shown.
        """
        numbers = json.loads((self.path / OUTCOME).read_text())
        synthetic, real = self.path / "synthetic.safetensors", self.path / "real.safetensors"
        tensors = load_file(real) if real.exists() else None
        seen = load_file(self.path / SEEN) if (self.path / SEEN).exists() else {}
        return Outcome(
            metrics=numbers["metrics"],
            history=numbers["history"],
            synthetic=SyntheticSet.load(synthetic) if synthetic.exists() else None,
            real=None if tensors is None else LabelledImages(**tensors, num_classes=num_classes),
            seen={int(k): seen[k] for k in sorted(seen, key=int)},
        )
