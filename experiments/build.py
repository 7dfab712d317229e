"""From a command's words to a checked scenario.

The root of a composition is the scenario's own fields, the keys of a run (seed, device,
threads, output, data_root), and *parts*: keys that something else refers to by
``${key}``, as ``method.objective`` refers to the objective. A part that nothing refers to
is dropped, and refused where the command line asked for it.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pkgutil import resolve_name
from typing import Any, final

from hydra.errors import HydraException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from experiments.compose import REFERENCE, composed, parsed, plain
from experiments.errors import CommandError, one_line
from experiments.listing import config_folder, known
from experiments.scenarios.base import Scenario

SCENARIOS = ("distillation", "federated", "continual", "federated_continual")
RUN_KEYS = ("seed", "device", "threads", "output", "data_root")
NOT_IN_HASH = ("device", "output", "data_root", "backend")  # where a run happens, not what it is
# What a run is called by: the choices of these groups that it uses, in this order.
NAMING_GROUPS = ("federated_continual", "federated", "continual", "method")
USUAL = {"backend": "local"}  # these groups are in the name where the choice is another one
UNRESOLVED = re.compile(r"Interpolation key '([^'.]+\.[^']+)'")


@final
@dataclass(frozen=True)
class Plan:
    """A run as composed.

    Attributes:
        scenario: What is to be run.
        kind: Which scenario it is.
        name: What the run is called by.
        config: Every value, resolved; with the digest of a user's own data.
        config_hash: Of everything that decides the numbers.
        settings: The keys of the run: seed, device, threads, output, data_root.
        words: The overrides that it was composed from.
    """

    scenario: Scenario
    kind: str
    name: str
    config: Mapping[str, Any]
    config_hash: str
    settings: Mapping[str, Any]
    words: tuple[str, ...]


def plan(kind: str, overrides: Sequence[str]) -> Plan:
    """Returns the checked scenario that a command describes.

    Raises:
        CommandError: If the words don't compose, or a value breaks its rule.
    """
    config, choices = composed(kind, overrides)
    raw = plain(config, resolve=False)
    fields = [field.name for field in dataclasses.fields(get_class(config._target_))]
    used = _used_keys(raw, fields)
    _refuse_misfits({key: raw[key] for key in used if key in raw}, choices)
    _refuse_missing(raw, used)
    _refuse_unused(used, overrides, choices)
    values = _resolved(config, used, choices)
    _refuse_updates(values, fields)
    _refuse_other_than_bools(values)
    if not values["output"] or not isinstance(values["output"], str):
        raise CommandError(f"output must be a folder, as output=FOLDER, got {values['output']!r}")
    scenario = _instantiated(values, fields)
    if (digest := scenario.dataset.digest()) is not None:
        values["dataset"] |= {"sha256": digest}
    return Plan(
        scenario=scenario,
        kind=kind,
        name=_name({key: choices.get(key) for key in used}),
        config=values,
        config_hash=hash_of(values),
        settings={key: values[key] for key in RUN_KEYS},
        words=tuple(overrides),
    )


def hash_of(config: Mapping[str, Any]) -> str:
    """Returns twelve hexadecimal digits that change with any value that decides the numbers."""
    relevant = _without(dict(config), NOT_IN_HASH)
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:12]


def _without(value: Any, keys: Sequence[str]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without(inner, keys) for key, inner in value.items() if key not in keys}


def _name(choices: Mapping[str, Any]) -> str:
    parts = [choices.get(group) for group in NAMING_GROUPS]
    parts += [choices.get(group) for group, usual in USUAL.items() if choices.get(group) != usual]
    return "-".join(str(part) for part in parts if part)


def _used_keys(raw: Mapping[str, Any], fields: Sequence[str]) -> set[str]:
    used: set[str] = set()
    waiting = list(fields)
    while waiting:
        key = waiting.pop()
        if key not in used:
            used.add(key)
            waiting += REFERENCE.findall(json.dumps(raw.get(key)))
    return used


def _refuse_missing(raw: Mapping[str, Any], used: set[str]) -> None:
    for key in sorted(used - set(raw)):
        names = ", ".join(known(key))
        told = f"NAME; known: {names}" if names else "VALUE"
        raise CommandError(f"{key} must be given, as {key}={told}")


def _refuse_misfits(parts: Mapping[str, Any], choices: Mapping[str, Any]) -> None:
    """Refuses a choice that lacks a setting which the YAML of another choice gives it."""
    found = list(_misfits(dict(parts)))
    if found:
        setting = min(found, key=len)
        raise CommandError(_misfit(setting, f"{_giver(setting, choices)} sets", choices))


def _misfits(node: Any, path: str = "") -> Iterator[str]:
    """Yields settings of dataclasses that have no such field."""
    if not isinstance(node, dict):
        return
    known = _types(node["_target_"]) if "_target_" in node else None
    for key, value in node.items():
        here = f"{path}.{key}".lstrip(".")
        if known is not None and key not in known and not key.startswith("_"):
            yield here
        yield from _misfits(value, here)


def _misfit(setting: str, by: str, choices: Mapping[str, Any]) -> str:
    group, name = setting.split(".", 1)
    return f"{group} must be one with {name}, which {by}, got {group}={choices.get(group)}"


def _giver(setting: str, choices: Mapping[str, Any]) -> str:
    """Returns the choice whose YAML sets what is another's."""
    for group, choice in choices.items():
        file = config_folder() / group / f"{choice}.yaml"
        if file.is_file() and OmegaConf.select(OmegaConf.load(file), setting) is not None:
            return f"{group}={choice}"
    return "the command"


def _refuse_unused(used: set[str], overrides: Sequence[str], choices: Mapping[str, Any]) -> None:
    for override in map(parsed, overrides):
        key = override.key_or_group.split(".")[0]
        if key not in used and key not in RUN_KEYS:
            chosen = [f"{g}={choices[g]}" for g in NAMING_GROUPS if g in used]
            raise CommandError(
                f"{key} must be left out with {' '.join(chosen)}, which has no use for it"
            )


def _refuse_updates(values: Mapping[str, Any], fields: Sequence[str]) -> None:
    """Refuses updates where a server trains by the recipe of an evaluation, which has epochs."""
    updates = values.get("evaluation", {}).get("updates")
    if updates is not None and "evaluation" not in fields:
        raise CommandError(
            "evaluation.updates must be null where a server trains, which counts epochs, got "
            f"{updates}; add evaluation.updates=null evaluation.recipe.epochs=N"
        )


def _refuse_other_than_bools(values: Mapping[str, Any]) -> None:
    """Refuses a word such as ``no`` for a switch: it is a string to Hydra, and so is true."""
    found = dict(_no_bools(dict(values)))
    if found:
        path = min(found, key=len)  # objective.exact, and not method.objective.exact
        raise CommandError(f"{path} must be true or false, got {found[path]!r}")


def _no_bools(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    types = _types(node["_target_"]) if "_target_" in node else None
    for key, value in node.items():
        here = f"{path}.{key}".lstrip(".")
        if (types or {}).get(key) in (bool, "bool") and not isinstance(value, bool):
            yield here, value
        yield from _no_bools(value, here)


@cache
def _types(target: str) -> Mapping[str, Any] | None:
    """Returns the fields of a dataclass and their types; None for what is none."""
    try:
        made = resolve_name(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise CommandError(f"_target_ must be what can be imported, got {target}") from error
    if not dataclasses.is_dataclass(made):
        return None
    return {field.name: field.type for field in dataclasses.fields(made) if field.init}


def _resolved(config: DictConfig, used: set[str], choices: Mapping[str, Any]) -> dict[str, Any]:
    keys = [*sorted(used), *RUN_KEYS, "_target_"]
    try:
        values = {key: value for key, value in plain(config, resolve=True).items() if key in keys}
    except InterpolationKeyError as error:
        lacking, group = UNRESOLVED.match(str(error)), str(error.full_key).split(".")[0]
        if lacking is None:
            raise CommandError(one_line(error)) from error
        by = f"{group}={choices.get(group)} reads"
        raise CommandError(_misfit(lacking.group(1), by, choices)) from error
    except OmegaConfBaseException as error:
        raise CommandError(one_line(error)) from error
    for missing in _missing(values):
        raise CommandError(f"{missing} must be given, as {missing}=VALUE")
    return values


def _missing(value: Any, path: str = "") -> list[str]:
    if value == "???":
        return [path]
    if isinstance(value, dict):
        return [m for k, v in value.items() for m in _missing(v, f"{path}.{k}".lstrip("."))]
    return []


def _instantiated(values: Mapping[str, Any], fields: Sequence[str]) -> Scenario:
    node = {key: value for key, value in values.items() if key in fields or key == "_target_"}
    try:
        scenario = instantiate(node, _convert_="all")
    except HydraException as error:
        cause = error.__cause__
        if isinstance(cause, ValueError | TypeError):
            raise CommandError(one_line(cause)) from error
        raise CommandError(one_line(error)) from error
    if not isinstance(scenario, Scenario):
        raise TypeError(f"_target_ must name a Scenario, got {type(scenario).__name__}")
    return scenario
