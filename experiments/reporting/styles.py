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

from experiments.reporting.arms import Arm

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

_DASHES: tuple[Any, ...] = ("-", "--", "-.", DOTS, (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (9, 3)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
_ORANGE, _SKY, _GREEN, _BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
_VERMILLION, _PURPLE, _BLACK = "#D55E00", "#CC79A7", "#000000"


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


_KNOWN: Mapping[str, Style] = {
    "random": Style(GREY, 4, 3),
    "herding": Style(_ORANGE, 1, 1),
    "kcenter": Style(_SKY, 2, 2),
    "kmeans": Style(_GREEN, 3, 4),
    "dm": Style(_VERMILLION, 0, 0),
    "fedavg": Style(_BLUE, 1, 0),
    "fedprox": Style(_PURPLE, 2, 1),
    "naive": Style(_BLACK, 6, 3),
    "joint": Style(_BLACK, 11, 5),
    "cumulative": Style(_BLACK, 10, 2),
}
_OTHER_COLOURS = (_BLUE, _PURPLE, _GREEN, _SKY, _ORANGE, _VERMILLION)


def _unlike(taken: Sequence[Style]) -> Iterator[Style]:
    """Yields looks of other colours or markers than those, the first 60 all different."""
    had = [style.colour for style in taken]
    spare, seen = sorted(_OTHER_COLOURS, key=had.count), {(s.colour, s.marker) for s in taken}
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
        present = set(methods)
        others = sorted(present - _KNOWN.keys())
        looks = _unlike([_KNOWN[method] for method in present & _KNOWN.keys()])
        return cls({**_KNOWN, **dict(zip(others, looks, strict=False))})

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
