"""Numbers as readers want them: rounded, with a unit or a prefix."""

from typing import Literal

Form = Literal[
    "text",
    "code",
    "percent",
    "share",
    "points",
    "bytes",
    "seconds",
    "count",
    "ratio",
    "probability",
]
UNITS: dict[Form, str] = {"percent": "%", "share": "%", "points": "points", "seconds": "s"}
MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def number_text(x: float, form: Form) -> str:
    """Returns one number as its form wants it, without its unit.

    >>> number_text(0.0312, "points"), number_text(1234.5, "seconds"), number_text(20, "count")
    ('+3.1', '1,234', '20')
    >>> number_text(0.1234, "share"), number_text(0.00123, "share")
    ('12.3', '0.12')
    >>> number_text(0.03125, "probability"), number_text(0.0002, "probability")
    ('0.031', '< 0.001')
    """
    if form == "percent":
        return f"{100 * x:.1f}"
    if form == "share":
        return f"{100 * x:.1f}" if x >= 0.01 else f"{100 * x:.2g}"
    if form == "points":
        return f"{100 * x:+.1f}".replace("-", MINUS)
    if form == "bytes":
        return bytes_text(x)
    if form == "ratio":
        return f"{_three_digits(x)}{TIMES}"
    if form == "probability":
        return "< 0.001" if x < 0.001 else f"{x:.3f}"
    if form == "seconds":
        return f"{x:,.1f}" if x < 100 else f"{x:,.0f}"
    return f"{x:,.0f}" if x == round(x) else f"{x:,.1f}"


def bytes_text(x: float) -> str:
    """Returns bytes with a decimal prefix and three digits.

    >>> bytes_text(785), bytes_text(31370), bytes_text(1e6)
    ('785 B', '31.4 kB', '1.00 MB')
    """
    if abs(x) < 999.5:
        return f"{x:.0f} B"
    for unit in ("kB", "MB", "GB"):
        x /= 1000
        if abs(x) < 999.5:
            return f"{_three_digits(x)} {unit}"
    return f"{_three_digits(x / 1000)} TB"


def _three_digits(x: float) -> str:
    return f"{x:,.{0 if abs(x) >= 99.95 else 1 if abs(x) >= 9.995 else 2}f}"
