"""Avalanche, imported late, as it takes seconds, and whole where processes do so at once."""

import json
import warnings
from importlib import import_module
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import ModuleType

SETTINGS = Path("~/.avalanche/config.json")


def avalanche_loop() -> ModuleType:
    """Imports :mod:`fedcl.continual.avalanche_loop`, without complaints about solvers."""
    _write_settings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("fedcl.continual.avalanche_loop")


def _write_settings() -> None:
    """Writes Avalanche's own settings where there are none, as a whole.

    It writes them at its first import on a machine, in place: another process that imports it in
    that moment finds an empty file and raises ``JSONDecodeError``.
    """
    file = SETTINGS.expanduser()
    if file.exists() and file.stat().st_size > 0:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=file.parent, delete=False) as part:
        json.dump({"dataset_location": str(file.parent / "data")}, part, indent=4)
    Path(part.name).replace(file)
