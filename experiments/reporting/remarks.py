"""What a method's own YAML says of how reports show it: its look, and whether it is a bound.

A line of its head, such as ``# in reports: black X dotted, lower bound``, so that no method is
named here. Most have none: they get the next free look, and are rivals.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import final

from experiments.errors import CommandError
from experiments.listing import config_folder

_LINE = re.compile(r"^# in reports: (.*)$", re.MULTILINE)
_REMARK = re.compile(r"(\w+) (\S) (\w+)(?:, (lower|upper) bound)?")


@final
@dataclass(frozen=True)
class Remark:
    """How reports show a method.

    Attributes:
        colour: Its name among the palette's.
        marker: Matplotlib's letter.
        dash: The name of its line style.
        bound: "lower" for what keeps nothing, "upper" for what has everything at once; empty for a
            rival.
    """

    colour: str
    marker: str
    dash: str
    bound: str


@cache
def remarks(group: str) -> Mapping[str, Remark]:
    """Returns the remarks in a group of YAML files, by name; empty where there is no such group.

    Raises:
        CommandError: If a remark can't be read.
    """
    found = {}
    for file in sorted((config_folder() / group).glob("*.yaml")):
        for line in _LINE.findall(file.read_text(encoding="utf-8")):
            if (parts := _REMARK.fullmatch(line)) is None:
                raise CommandError(
                    f"'in reports' of {group}={file.stem} must be as 'black X dotted, lower "
                    f"bound', got {line!r}"
                )
            colour, marker, dash, bound = parts.groups(default="")
            found[file.stem] = Remark(colour, marker, dash, bound)
    return found
