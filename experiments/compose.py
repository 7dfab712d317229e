"""From a command's words to a configuration: Hydra's composition, and what to say where it fails.

Words that choose decide which files are merged, which takes long; what they make is kept, and
words that set a value change a copy of it, as Hydra would change it.
"""

import copy
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from experiments.errors import CommandError, one_line
from experiments.listing import GROUPS, config_folder, known

REFERENCE = re.compile(r"\$\{([a-z_]+)")
UNKNOWN = re.compile(r"Could not override '([^']+)'")
UNNAMED = re.compile(r"Could not find '([^']+)/([^'/]+)'")
OF_THE_VERB = ("scenario", "_target_")
KEPT = 64  # compositions


class Composed(NamedTuple):
    """What files and words make: values, their references unresolved; the choice by group."""

    values: DictConfig
    choices: Mapping[str, Any]


def composed(kind: str, words: Iterable[str]) -> Composed:
    """Returns the configuration of a scenario.

    Raises:
        CommandError: If the words don't compose.
    """
    overrides = [parsed(word) for word in words]
    for override in overrides:
        _check_key(override)
        _check_value(override)
    choosing = tuple(str(o.input_line) for o in overrides if not _sets_a_value(o))
    try:
        made = copy.deepcopy(_chosen(kind, choosing))
    except (HydraException, OmegaConfBaseException) as error:
        unknown = UNKNOWN.match(str(error))
        reason = _unknown(kind, overrides, unknown.group(1)) if unknown else _unnamed(error)
        raise CommandError(reason) from error
    for override in filter(_sets_a_value, overrides):
        key = override.key_or_group
        try:
            OmegaConf.update(made.values, key, override.value(), merge=True)
        except (ConfigKeyError, ConfigAttributeError) as error:
            raise CommandError(_unknown(kind, overrides, key)) from error
        except OmegaConfBaseException as error:
            raise CommandError(one_line(error)) from error
    return made


def swept(words: Iterable[str]) -> list[list[str]]:
    """Returns every combination of comma-separated values, as Hydra's sweeps write them.

    Raises:
        CommandError: If a word is not an override.
    """
    axes = [
        [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in map(parsed, words)
    ]
    return [list(combination) for combination in itertools.product(*axes)]


def parsed(word: str) -> Override:
    """Returns a word as Hydra understands it.

    Raises:
        CommandError: If it is not an override.
    """
    try:
        return OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise CommandError(
            f"a word must be KEY=VALUE, with quotes around special characters, got {word!r}"
        ) from error


def plain(values: DictConfig, resolve: bool) -> dict[str, Any]:
    """Returns a configuration as dictionaries and lists."""
    container = OmegaConf.to_container(values, resolve=resolve)
    if not isinstance(container, dict):
        raise TypeError(f"the configuration must be a mapping, got {type(container).__name__}")
    return {str(key): value for key, value in container.items()}


@lru_cache(KEPT)
def _chosen(kind: str, words: Sequence[str]) -> Composed:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("config", [f"scenario={kind}", *words], return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    with open_dict(config):
        config.pop("hydra")
    for path in _mappings(plain(config, resolve=False)):
        OmegaConf.set_struct(OmegaConf.select(config, path), False)
    return Composed(config, choices)


def _mappings(node: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yields where fields are mappings, not objects: words may add to them, as to step sizes."""
    for key, value in node.items():
        if isinstance(value, dict):
            here = f"{path}.{key}".lstrip(".")
            if path and "_target_" not in value:
                yield here
            yield from _mappings(value, here)


def _sets_a_value(override: Override) -> bool:
    """Whether a word changes no more than a value; all others are Hydra's to understand."""
    key, plainly = override.key_or_group, override.type == OverrideType.CHANGE
    chooses = (config_folder() / key).is_dir() or override.package is not None
    return plainly and not (chooses or override.is_hydra_override())


def _check_key(override: Override) -> None:
    key = override.key_or_group
    if not key:
        raise CommandError(f"a word must be KEY=VALUE, got {override.input_line!r}")
    if key in OF_THE_VERB:
        raise CommandError(f"{key} must be left out: it is the verb's, got {override.input_line}")


def _check_value(override: Override) -> None:
    """Refuses several values, and a choice that is no name, such as ``attack=null``."""
    group, value = override.key_or_group, override.value()
    if override.is_sweep_override():
        raise CommandError(
            f"{group} must be one value, got {override.input_line}; -m makes a run of each, "
            f"{group}=[...] is a list, quotes keep a comma"
        )
    if (config_folder() / group).is_dir() and (value is None or isinstance(value, int | float)):
        raise CommandError(
            f"{group} must be one of {', '.join(known(group))}, got {override.input_line}"
        )


def _unnamed(error: BaseException) -> str:
    """Says which names a group has, where one was looked for that it hasn't."""
    wrong = UNNAMED.search(str(error))
    if wrong is None:
        return one_line(error)
    group, name = wrong.groups()
    names = known(group)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown {group} {name!r}; {hint}known: {', '.join(names)}"


def _unknown(kind: str, overrides: Iterable[Override], setting: str) -> str:
    """Says which settings stand where one was looked for that there isn't."""
    others = [str(o.input_line) for o in overrides if o.get_key_element() != setting]
    node, parts = composed(kind, others).values, setting.split(".")
    values = plain(node, resolve=False)
    elsewhere = [key for key, part in values.items() if _holds(part, setting)]
    if elsewhere:
        meant = " or ".join(f"{key}.{setting}" for key in sorted(elsewhere))
        return f"unknown setting {setting!r}; did you mean {meant}?"
    same = REFERENCE.match(str(values.get(parts[0])))
    if same is not None:
        other = ".".join([same.group(1), *parts[1:]])
        return f"{setting} must be set as {other}, or with a {parts[0]}=NAME of its own"
    found: list[str] = []
    while len(parts) > 1 and OmegaConf.is_dict(node.get(parts[0])):
        key = parts.pop(0)
        same = REFERENCE.match(str(plain(node, resolve=False)[key]))
        found = [*found, key] if same is None else [same.group(1)]
        node = node[key]
    names = {str(key) for key in node if str(key)[0] != "_"} | (
        set() if found else set(GROUPS[kind])
    )
    near = get_close_matches(parts[0], sorted(names), n=1)
    if near:
        return f"unknown setting {setting!r}; did you mean {'.'.join([*found, *near])}?"
    here = "known" if not found else f"{'.'.join(found)} has"
    return f"unknown setting {setting!r}; {here}: {', '.join(sorted(names)) or 'none as chosen'}"


def _holds(part: object, setting: str) -> bool:
    return isinstance(part, dict) and setting in part
