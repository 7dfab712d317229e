"""Argument checks, in one error form: ``<name> must <rule>, got <value>``."""

from collections.abc import Collection, Sequence

from torch import Tensor


def at_least(name: str, value: float, minimum: float) -> None:
    """Refuses a value below ``minimum``, or one that is not a number.

    >>> at_least("ipc", 0, 1)
    Traceback (most recent call last):
    ValueError: ipc must be >= 1, got 0

    Raises:
        TypeError: If ``value`` is not an int or a float (a bool is neither here).
        ValueError: If it is smaller than ``minimum``, or NaN.
    """
    _number(name, value)
    if not value >= minimum:
        raise ValueError(f"{name} must be >= {minimum}, got {value}")


def whole(name: str, value: int, minimum: int) -> None:
    """Refuses anything but an int of at least ``minimum``.

    Raises:
        TypeError: If ``value`` is not an int.
        ValueError: If it is smaller than ``minimum``.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    at_least(name, value, minimum)


def positive(name: str, value: float) -> None:
    """Refuses a value that is not above zero.

    Raises:
        TypeError: If ``value`` is not an int or a float.
        ValueError: If it is not above zero.
    """
    _number(name, value)
    if not value > 0:
        raise ValueError(f"{name} must be > 0, got {value}")


def fraction(name: str, value: float) -> None:
    """Refuses a value outside [0, 1].

    Raises:
        TypeError: If ``value`` is not an int or a float.
        ValueError: If it lies outside.
    """
    _number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")


def below_one(name: str, value: float) -> None:
    """Refuses a value outside [0, 1), as a momentum of 1 never forgets.

    Raises:
        TypeError: If ``value`` is not an int or a float.
        ValueError: If it lies outside.
    """
    _number(name, value)
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value}")


def inside_one(name: str, value: float) -> None:
    """Refuses a value outside (0, 1), as a probability whose logit is finite.

    Raises:
        TypeError: If ``value`` is not an int or a float.
        ValueError: If it lies outside.
    """
    _number(name, value)
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value}")


def listed(name: str, values: Sequence[object]) -> None:
    """Refuses anything but a list or another sequence; text is none.

    >>> listed("stores", "uint8")
    Traceback (most recent call last):
    TypeError: stores must be a list, got 'uint8'

    Raises:
        TypeError: If ``values`` is not a sequence.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a list, got {values!r}")


def one_of(kind: str, value: str, known: Collection[str]) -> None:
    """Refuses a name that is not known, and tells the known ones.

    >>> one_of("store", "jpeg", ["uint8", "float32"])
    Traceback (most recent call last):
    ValueError: unknown store 'jpeg'; known: float32, uint8

    Raises:
        ValueError: If ``value`` is not among ``known``.
    """
    if value not in known:
        raise ValueError(f"unknown {kind} {value!r}; known: {', '.join(sorted(known))}")


def image_stack(name: str, images: Tensor) -> None:
    """Refuses a tensor that is not ``(N, C, H, W)`` with sides of at least 8 pixels.

    Raises:
        ValueError: If the shape differs.
    """
    if images.ndim != 4 or min(images.shape[2:]) < 8:
        raise ValueError(
            f"{name} must have shape (N, C, H, W) with sides of 8 pixels or more, "
            f"got {tuple(images.shape)}"
        )


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
