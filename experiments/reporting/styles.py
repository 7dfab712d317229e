"""How arms look: one colour a method, and marks that repeat what the colour says.

Colours are Okabe and Ito's, which colour-blind readers tell apart; marker, fill and line style
are for print in grey. A method looks the same in all figures of a report.

References:
    | Color Universal Design (Okabe and Ito, 2008)
    | https://jfly.uni-koeln.de/color/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Self, final

from experiments.errors import CommandError
from experiments.reporting.arms import Arm
from experiments.reporting.remarks import Remark, remarks

Look = dict[str, Any]  # Matplotlib's keyword arguments

GREY, LIGHT, INK = "#6f6f6f", "#e9e9e9", "#222222"
DOTS: Any = (0, (1, 1.4))
SETTINGS: Any = {
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "axes.edgecolor": "#8a8a8a",
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.handlelength": 2.8,
    "legend.labelspacing": 0.6,
    "lines.linewidth": 1.8,
    "lines.markersize": 6.5,
    "lines.solid_capstyle": "round",
    "errorbar.capsize": 3,
    "svg.fonttype": "path",
    "svg.hashsalt": "fedcl",
}

_DASHED: dict[str, Any] = {
    "solid": "-",
    "dashed": "--",
    "dashdot": "-.",
    "dotted": DOTS,
    "dashdotdot": (0, (6, 1.5, 1, 1.5, 1, 1.5)),
    "long": (0, (9, 3)),
}
_DASHES = tuple(_DASHED.values())
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_COLOURS = {
    "blue": "#0072B2",
    "purple": "#CC79A7",
    "green": "#009E73",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "vermilion": "#D55E00",
    "black": "#000000",  # of bounds
    "grey": GREY,  # of random images
}
_SPARE = [colour for name, colour in _COLOURS.items() if name not in {"black", "grey"}]
_NAMED = ("method", "federated", "continual", "federated_continual")  # groups whose arms are drawn


@final
@dataclass(frozen=True)
class Style:
    """How an arm looks in every figure.

    Attributes:
        colour: Okabe and Ito's, as hexadecimal.
        marker: Index into the markers.
        dash: Index into the line styles.
        hollow: Whether its markers are filled with white.
    """

    colour: str
    marker: int
    dash: int
    hollow: bool = False

    def variant(self, k: int) -> "Style":
        """Returns the look of the k-th arm of the same method: its colour, but other marks."""
        marker = (self.marker + 7 * (k // 2)) % len(_MARKERS)
        return Style(self.colour, marker, (self.dash + k) % len(_DASHES), k % 2 == 1)

    def joined(self) -> Look:
        """Returns Matplotlib's arguments for a line with markers."""
        return {**self.points(), "linestyle": _DASHES[self.dash]}

    def points(self) -> Look:
        """Returns Matplotlib's arguments for markers without a line."""
        return {
            "color": self.colour,
            "marker": _MARKERS[self.marker],
            "markerfacecolor": "white" if self.hollow else self.colour,
            "markeredgecolor": self.colour,
            "markeredgewidth": 1.4,
            "linestyle": "none",
        }

    def bare(self) -> Look:
        """Returns Matplotlib's arguments for a thin line without markers."""
        return {"color": self.colour, "linestyle": _DASHES[self.dash], "linewidth": 1.4}


ALL_DATA = Style(_COLOURS["black"], _MARKERS.index("*"), 5)  # of what isn't made small


def _known() -> dict[str, Style]:
    """Returns the looks that methods' YAML files ask for."""
    return {
        name: _style(f"{group}={name}", remark)
        for group in _NAMED
        for name, remark in remarks(group).items()
    }


def _style(method: str, remark: Remark) -> Style:
    dashes = list(_DASHED)
    asked = {remark.colour: _COLOURS, remark.marker: _MARKERS, remark.dash: dashes}
    for part, known in asked.items():
        if part not in known:
            raise CommandError(
                f"unknown {part!r} 'in reports' of {method}; known: {', '.join(known)}"
            )
    return Style(_COLOURS[remark.colour], _MARKERS.index(remark.marker), dashes.index(remark.dash))


def _unlike(taken: Sequence[Style]) -> Iterator[Style]:
    """Yields looks of other colours or markers than those, the first 60 all different."""
    had = [style.colour for style in taken]
    spare, seen = sorted(_SPARE, key=had.count), {(s.colour, s.marker) for s in taken}
    for i in count():
        marker = (i + 5 + i // len(_MARKERS)) % len(_MARKERS)
        look = Style(spare[i % len(spare)], marker, (i + 1) % len(_DASHES))
        if (look.colour, look.marker) not in seen:
            yield look


@final
@dataclass(frozen=True)
class Palette:
    """The look of every method, the same in all figures of a report.

    Attributes:
        styles: Look by method, such as "dm" or "fedavg".
    """

    styles: Mapping[str, Style]

    @classmethod
    def of(cls, methods: Iterable[str]) -> Self:
        """Returns a palette with the fixed looks and one for each further method."""
        present, known = set(methods), _known()
        others = sorted(present - known.keys())
        looks = _unlike([known[method] for method in present & known.keys()])
        return cls({**known, **dict(zip(others, looks, strict=False))})

    def of_arms(self, arms: Iterable[Arm], *without: str) -> dict[str, Style]:
        """Returns looks by label; arms of one method share its colour and differ in marks.

        Args:
            arms: The arms of a section.
            without: Settings that the figure shows on an axis, so that labels leave them out.
        """
        looks: dict[str, Style] = {}
        seen: dict[str, int] = {}
        for arm in sorted(arms, key=lambda arm: arm.label):
            label = arm.label_without(*without)
            if label not in looks:
                k = seen.get(arm.method, 0)
                looks[label] = self.styles[arm.method].variant(k)
                seen[arm.method] = k + 1
        return looks
