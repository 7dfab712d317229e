"""The ways in which a command ends early."""

import re
from types import FrameType


class CommandError(ValueError):
    """A command that can't be run as written; one line says why. Exit status 2."""


class RunFailedError(RuntimeError):
    """A run that started and did not complete; its record says why. Exit status 1."""


def interrupted(_signal: int, _frame: FrameType | None) -> None:
    """Makes of a signal what Ctrl-C makes."""
    raise KeyboardInterrupt


def one_line(error: BaseException) -> str:
    """Returns a message on one line, without Hydra's words about where it stood."""
    text = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
    found = re.match(r"In '[^']*': (.*)", text)
    return found.group(1) if found else text
