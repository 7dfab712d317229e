"""A run as its record tells it: how it was set, what it cost, what it measured."""

import json
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from experiments.errors import CommandError

Array = NDArray[np.float64]
Setting = str | float

SCHEMA = 1  # of the records that are read here
NEEDED = ("name", "status", "seed", "config", "threads")  # of every record
SCENARIOS = {
    "distillation": "Dataset distillation",
    "federated": "Federated learning",
    "continual": "Continual learning",
    "federated_continual": "Federated continual learning",
}
# Where a run happened, the seed, over which arms are averaged, and what else is looked at.
_NOT_SETTINGS = frozenset(
    {"seed", "output", "data_root", "threads", "device"}
    | {"stores", "across", "race", "random", "whole"}
)


def _ratio(part: float, whole: float) -> float:
    """A share; NaN, which is not shown, of nothing."""
    return part / whole if whole else math.nan


_DERIVED = {
    "bytes_total": (operator.add, "bytes_up", "bytes_down"),
    "raw_ratio": (_ratio, "bytes_total", "raw_bytes"),
    "gain": (operator.sub, "accuracy", "random_accuracy"),
    "stored_share": (_ratio, "storage_bytes", "data_bytes"),
    "distill_ratio": (_ratio, "distill_seconds", "train_seconds"),
}


@final
@dataclass(frozen=True)
class Run:
    """One run's record.

    Attributes:
        folder: Where record.json and the run's tensors lie.
        record: What record.json holds; DESIGN.md section 6 lists its keys.
    """

    folder: Path
    record: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Returns the run in ``folder``.

        Raises:
            CommandError: If record.json is no JSON object of this schema and a known scenario,
                or lacks what every record has.
        """
        file = folder / "record.json"
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CommandError(f"{file} must be JSON, got {error}") from error
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise CommandError(f"{file} must be a record of schema {SCHEMA}")
        if record.get("scenario") not in SCENARIOS:
            raise CommandError(
                f"unknown scenario {record.get('scenario')!r} in {file}; "
                f"known: {', '.join(sorted(SCENARIOS))}"
            )
        missing = [key for key in NEEDED if key not in record]
        if missing:
            raise CommandError(f"{file} must hold {', '.join(NEEDED)}, lacks {', '.join(missing)}")
        return cls(folder, record)

    @property
    def scenario(self) -> str:
        """One of SCENARIOS."""
        return self.text("scenario")

    @property
    def name(self) -> str:
        """What was run, such as "one_shot-dm"."""
        return self.text("name")

    @property
    def completed(self) -> bool:
        """Whether the run came to its end; only such runs are averaged."""
        return self.text("status") == "completed"

    @property
    def made_by_server(self) -> bool:
        """Whether the small set is the server's own, and no union of what clients uploaded."""
        return bool(self.metrics.get("set_by") == "server")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.record["seed"])

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The configuration as dotted keys, without the seed and what cannot alter a result."""
        config = self.record["config"]
        settings = flatten({key: v for key, v in config.items() if key not in _NOT_SETTINGS})
        return {key: v for key, v in settings.items() if not key.endswith(".data_root")}

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return str(self.settings["dataset.name"])

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """The recorded metrics, and the sums, differences and ratios of _DERIVED.

        Accuracies of other networks are taken apart, as ``across.mlp``.
        """
        metrics = dict(self.record.get("metrics", {}))
        metrics |= flatten({"across": metrics.pop("across", {})})
        for key, (combine, first, second) in _DERIVED.items():
            if first in metrics and second in metrics:
                metrics[key] = combine(metrics[first], metrics[second])
        return metrics

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """One mapping for each round or experience."""
        history: Sequence[Mapping[str, Any]] = self.record.get("history", ())
        return history

    @property
    def iterative(self) -> bool:
        """Whether the run communicated more than once, and so has a curve to draw."""
        return len(self.history) > 1

    def text(self, key: str) -> str:
        """Returns a field of the record as text, empty where it is null or absent."""
        value = self.record.get(key)
        return "" if value is None else str(value)

    def number(self, key: str) -> float | None:
        """Returns a metric, or a number of the record itself; None where it is not finite."""
        return finite(self.metrics.get(key, self.record.get(key)))

    def matrix(self, key: str) -> Array | None:
        """Returns a metric that is a list of rows, ``(rows, columns)``."""
        rows = self.metrics.get(key)
        return np.array(rows, dtype=np.float64) if rows else None

    def vector(self, key: str) -> Array | None:
        """Returns a metric that is a list, ``(N,)``, with NaN where it has no number."""
        values = self.metrics.get(key)
        return np.array([math.nan if x is None else x for x in values]) if values else None

    def curve(self, key: str) -> Array:
        """Returns a column of the history, ``(rounds,)``, with NaN where it has no number."""
        column = [finite(row.get(key)) for row in self.history]
        return np.array([math.nan if x is None else x for x in column], dtype=np.float64)

    def bytes_so_far(self) -> Array:
        """Returns the bytes sent in both directions up to each round's end, ``(rounds,)``."""
        return np.cumsum(self.curve("bytes_up") + self.curve("bytes_down"))

    def seconds_so_far(self) -> Array:
        """Returns the simulated seconds up to each round's end, ``(rounds,)``; NaN without."""
        return np.cumsum(self.curve("simulated_seconds"))


def find_runs(folders: Sequence[Path]) -> tuple[Run, ...]:
    """Returns the runs at or below the folders, each once, ordered by scenario, name and seed.

    Raises:
        CommandError: If a folder is missing, no run is found, or a record is malformed.
    """
    for folder in folders:
        if not folder.is_dir():
            raise CommandError(f"a run or a folder of runs must exist, got {folder}")
    files = {file.resolve() for folder in folders for file in folder.rglob("record.json")}
    if not files:
        shown = ", ".join(map(str, folders))
        raise CommandError(f"folders must hold a run's record.json at some depth, got {shown}")
    return tuple(sorted((Run.read(file.parent) for file in files), key=_place))


def unfinished(folders: Sequence[Path]) -> int:
    """Returns how many runs at or below the folders have begun and have no record yet."""
    begun = {file.resolve().parent for folder in folders for file in folder.rglob("config.yaml")}
    return sum(not (folder / "record.json").exists() for folder in begun)


def _place(run: Run) -> tuple[object, ...]:
    scenario = list(SCENARIOS).index(run.scenario)
    settings = str(sorted(run.settings.items()))
    return scenario, run.dataset, run.name, settings, run.seed, run.folder


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Returns a nested configuration as dotted keys; nulls are left out.

    All numbers become floats, so that ``alpha=1`` and ``alpha=1.0`` are one setting. Parts of a
    list are numbered where they are mappings; other lists become text.

    >>> flatten({"buffer": {"images": 20, "bytes": None}, "decoders": [{"factor": 2}], "ipc": 1})
    {'buffer.images': 20.0, 'decoders.0.factor': 2.0, 'ipc': 1.0}
    """
    flat: dict[str, Setting] = {}
    for key, value in config.items():
        if isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
            flat |= flatten({str(i): part for i, part in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = float(value) if isinstance(value, int | float) else str(value)
    return flat


def finite(value: object) -> float | None:
    """Returns a finite number as float; None for anything else."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
