"""A parameterisation as plain values and back, so that a file says how it is decoded."""

import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

from distill.parameterisations.base import Decoder, Parameterisation, Source

TYPE = "type"
HOME = "distill.parameterisations."  # nothing outside this package is ever built from a file


def describe(part: Parameterisation | Source | Decoder) -> dict[str, Any]:
    """Returns the type and the fields of a part, and of the parts in it."""
    fields = {f.name: _value(getattr(part, f.name)) for f in dataclasses.fields(part)}  # type: ignore[arg-type]
    return {TYPE: f"{type(part).__module__}.{type(part).__name__}", **fields}


def rebuild(description: Mapping[str, Any]) -> Parameterisation:
    """Returns the parameterisation that :func:`describe` described.

    Raises:
        ValueError: If it names anything but parts of this package.
    """
    found = _rebuilt(description)
    if not isinstance(found, Parameterisation):
        raise ValueError(f"a parameterisation must be described, got {description.get(TYPE)!r}")
    return found


def _value(value: Any) -> Any:
    if isinstance(value, Source | Decoder):
        return describe(value)
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return value


def _rebuilt(value: Any) -> Any:
    if isinstance(value, list):
        return [_rebuilt(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    module, _, name = str(value.get(TYPE)).rpartition(".")
    if not module.startswith(HOME):
        raise ValueError(f"parts of {HOME[:-1]} alone can be described, got {value.get(TYPE)!r}")
    try:
        part = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ValueError(f"unknown part {value.get(TYPE)!r} of a parameterisation") from error
    if not (isinstance(part, type) and issubclass(part, Parameterisation | Source | Decoder)):
        raise ValueError(f"unknown part {value.get(TYPE)!r} of a parameterisation")
    return part(**{key: _rebuilt(inner) for key, inner in value.items() if key != TYPE})
