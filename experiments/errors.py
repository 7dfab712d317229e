"""The two ways in which a command ends badly."""


class CommandError(ValueError):
    """A command that can't be run as written; one line says why. Exit status 2."""


class RunFailedError(RuntimeError):
    """A run that started and did not complete; its record says why. Exit status 1."""
