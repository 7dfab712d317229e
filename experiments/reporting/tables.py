"""A table keeps numbers, not text: the page, the CSV and the Markdown write the same cells."""

import csv
import io
from dataclasses import dataclass
from typing import Literal, final

from experiments.reporting.numbers import UNITS, Form, number_text
from fedcl.statistics import Interval

Cell = str | float | Interval | None

NONE = "\N{EN DASH}"


@final
@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Its name in the CSV.
        title: Its heading for readers.
        form: What the numbers are.
        better: Which of its numbers is best; None where the column is no contest.
    """

    key: str
    title: str
    form: Form = "text"
    better: Literal["higher", "lower"] | None = None


@final
@dataclass(frozen=True)
class Table:
    """A table of text and numbers.

    Attributes:
        name: Stem of its files.
        title: Its heading.
        columns: The columns.
        rows: Cells, one a column; intervals keep their half width.
        best: (row, column) of the cells to set in bold.
        notes: Sentences below the table.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()

    def csv(self) -> str:
        """Returns the table with unrounded numbers; an interval takes two columns."""
        wide = [any(isinstance(row[i], Interval) for row in self.rows) for i in self._indices]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(
            name
            for column, two in zip(self.columns, wide, strict=True)
            for name in (column.key, f"{column.key}_half_width")[: 1 + two]
        )
        for row in self.rows:
            pairs = zip(row, wide, strict=True)
            writer.writerow(x for cell, two in pairs for x in _unrounded(cell)[: 1 + two])
        return buffer.getvalue()

    def markdown(self) -> str:
        """Returns the table as GitHub's Markdown, the best values in bold."""
        heads = [_heading(column) for column in self.columns]
        rule = ["---" if c.form in {"text", "code"} else "---:" for c in self.columns]
        body = [[self._markdown_cell(i, j) for j in self._indices] for i in range(len(self.rows))]
        lines = [f"| {' | '.join(line)} |" for line in [heads, rule, *body]]
        return "\n".join([f"**{self.title}**", "", *lines, "", *self.notes, ""])

    @property
    def _indices(self) -> range:
        return range(len(self.columns))

    def _markdown_cell(self, row: int, column: int) -> str:
        text = cell_text(self.rows[row][column], self.columns[column].form)
        text = " ".join(text.replace("|", "\\|").split())
        if self.columns[column].form == "code" and text:
            return f"`{text}`"
        return f"**{text}**" if (row, column) in self.best else text


def _heading(column: Column) -> str:
    unit = UNITS.get(column.form)
    return f"{column.title} ({unit})" if unit else column.title


def _unrounded(cell: Cell) -> tuple[object, object]:
    if isinstance(cell, Interval):
        return cell.mean, "" if cell.half_width is None else cell.half_width
    return "" if cell is None else cell, ""


def cell_text(cell: Cell, form: Form) -> str:
    """Returns a cell for readers: rounded, with ± where an interval is known and of interest.

    >>> cell_text(Interval(0.934, 0.0123, 3), "percent"), cell_text(7850.0, "bytes")
    ('93.4 ± 1.2', '7.85 kB')
    """
    mean, half = cell_parts(cell, form)
    return f"{mean} ± {half}" if half else mean


def cell_parts(cell: Cell, form: Form) -> tuple[str, str]:
    """Returns a cell's value and its half width as text; the latter is empty where not shown."""
    if cell is None:
        return NONE, ""
    if isinstance(cell, str):
        return cell, ""
    if not isinstance(cell, Interval):
        return number_text(cell, form), ""
    shown = cell.half_width is not None and form in {"percent", "points"}
    return number_text(cell.mean, form), f"{100 * (cell.half_width or 0.0):.1f}" if shown else ""
