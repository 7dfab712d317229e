"""A plate is what stands in a report under one caption: a chart, or image grids in a row.

Figures are drawn with Matplotlib's object-oriented interface and change no global state.
"""

import io
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.reporting.styles import SETTINGS

PNG_DPI = 160


@final
@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        name: Stem of its files.
        figure: What to draw.
        alt: What it shows, for those who do not see it.
        vector: Whether the page shows it as SVG; image grids are shown as PNG.
    """

    name: str
    figure: Figure
    alt: str
    vector: bool = True

    @cached_property
    def png(self) -> bytes:
        """The picture as PNG, at PNG_DPI."""
        return self._saved("png")

    @cached_property
    def svg(self) -> bytes:
        """The picture as SVG, the same bytes each time."""
        return self._saved("svg")

    @property
    def width(self) -> int:
        """Its width on the page, CSS pixels."""
        return round(self.figure.get_figwidth() * 96)

    def _saved(self, form: Literal["png", "svg"]) -> bytes:
        buffer = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        with mpl.rc_context(SETTINGS):
            self.figure.savefig(buffer, format=form, dpi=PNG_DPI, metadata=metadata)
        return buffer.getvalue()


@final
@dataclass(frozen=True)
class Plate:
    """Pictures under one caption.

    Attributes:
        title: The heading.
        caption: What to look at.
        panels: One chart, or image grids that stand beside one another.
    """

    title: str
    caption: str
    panels: tuple[Panel, ...]
