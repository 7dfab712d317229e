"""The page: one HTML file that needs nothing beside it, with its pictures inside."""

import base64
import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import final

from experiments.reporting.chapters import Chapter
from experiments.reporting.ledger import commands, failures
from experiments.reporting.numbers import UNITS
from experiments.reporting.plates import Plate
from experiments.reporting.prose import facts, finding, introduction
from experiments.reporting.runs import Run
from experiments.reporting.tables import Column, Table, cell_parts

TEMPLATE = Path(__file__).with_name("page.html")
MARK = '<meta name="generator" content="FedCL report">'


@final
@dataclass(frozen=True)
class Arms:
    """What a table shows of arms besides their names.

    Attributes:
        colours: The colour of an arm's dot, by label.
        bounds: The labels of bounds, whose rows are set back.
    """

    colours: Mapping[str, str] = field(default_factory=dict)
    bounds: Collection[str] = ()


def page(
    runs: Sequence[Run],
    chapters: Sequence[Chapter],
    title: str,
    published: Table | None = None,
    begun: int = 0,
) -> str:
    """Returns the whole page as HTML.

    Args:
        runs: All, those that failed among them.
        chapters: What is shown of them.
        title: The heading.
        published: What others printed, beside what was measured.
        begun: How many other runs have no record yet.
    """
    failed = failures(runs)
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(title),
        introduction=html.escape(introduction(runs, begun)),
        contents="\n".join(map(_contents, chapters)),
        chapters="\n".join(map(_chapter, chapters)),
        published=_titled(published, Arms()) if published else "",
        failed=_titled(failed, Arms()) if failed else "",
        count=len(runs),
        commands=_table(commands(runs), Arms()),
        facts="\n".join(
            f"<dt>{html.escape(term)}</dt><dd>{html.escape(text)}</dd>"
            for term, text in facts(runs)
        ),
    )


def _contents(chapter: Chapter) -> str:
    section = chapter.section
    links = [_link(table.name, table.title) for table in chapter.tables]
    links += [_link(chapter.anchor(plate), plate.title) for plate in chapter.plates]
    items = "".join(f"<li>{link}</li>" for link in links)
    return f"<li>{_link(section.slug, section.title)}<ol>{items}</ol></li>"


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{anchor}">{html.escape(text)}</a>'


def _chapter(chapter: Chapter) -> str:
    """A section: its finding, its tables, its figures."""
    section = chapter.section
    arms = Arms(chapter.colours, {arm.label for arm in section.arms if arm.bound})
    parts = [
        f'<section id="{section.slug}">\n<h2>{html.escape(section.title)}</h2>',
        f"<p>{html.escape(finding(section))}</p>",
        *(_titled(table, arms) for table in chapter.tables),
        *(_figure(plate, chapter.anchor(plate)) for plate in chapter.plates),
        "</section>",
    ]
    return "\n".join(parts)


def _titled(table: Table, arms: Arms) -> str:
    title = html.escape(table.title)
    return f'<div id="{table.name}">\n<h3>{title}</h3>\n{_table(table, arms)}</div>'


def _table(table: Table, arms: Arms) -> str:
    """A table with its notes and links to its files."""
    rows = []
    for i, row in enumerate(table.rows):
        kind = ' class="bound"' if row[0] in arms.bounds else ""
        cells = "".join(_cell(table, i, j, arms.colours) for j in range(len(row)))
        rows.append(f"<tr{kind}>{cells}</tr>")
    heads = "".join(_head(column) for column in table.columns)
    notes = f'<p class="note">{html.escape(" ".join(table.notes))}</p>\n' if table.notes else ""
    body = "\n".join(rows)
    return (
        f'<div class="scroll"><table>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n"
        f"{notes}{_files('tables', [table.name], {'csv': 'CSV', 'md': 'Markdown'})}"
    )


def _head(column: Column) -> str:
    unit = UNITS.get(column.form)
    small = f" <small>{unit}</small>" if unit else ""
    return f'<th class="{_kind(column)}" scope="col">{html.escape(column.title)}{small}</th>'


def _kind(column: Column) -> str:
    if column.key == "error":
        return "text wrap"
    return column.form if column.form in {"text", "code"} else "number"


def _cell(table: Table, row: int, column: int, colours: Mapping[str, str]) -> str:
    cell, kind = table.rows[row][column], table.columns[column]
    mean, half = cell_parts(cell, kind.form)
    text = html.escape(mean)
    if half:
        text += f" <i>± {html.escape(half)}</i>"
    if kind.form == "code":
        text = f"<code>{text}</code>"
    if (row, column) in table.best:
        text = f"<b>{text}</b>"
    if isinstance(cell, str) and cell in colours:
        text = f'<span class="key" style="background:{colours[cell]}"></span>{text}'
    return f'<td class="{_kind(kind)}">{text}</td>'


def _figure(plate: Plate, anchor: str) -> str:
    """A figure with its caption and links to its files; its pictures are embedded."""
    images = []
    for panel in plate.panels:
        form, data = ("svg+xml", panel.svg) if panel.vector else ("png", panel.png)
        source = f"data:image/{form};base64,{base64.b64encode(data).decode()}"
        alt = html.escape(panel.alt)
        images.append(f'<img src="{source}" alt="{alt}" width="{panel.width}">')
    pictures = "\n".join(images)
    names = [panel.name for panel in plate.panels]
    return (
        f'<figure id="{anchor}">\n<h3>{html.escape(plate.title)}</h3>\n'
        f'<div class="panels">\n{pictures}\n</div>\n'
        f"<figcaption>{html.escape(plate.caption)}</figcaption>\n"
        f"{_files('figures', names, {'png': 'PNG', 'svg': 'SVG'})}</figure>"
    )


def _files(folder: str, names: Sequence[str], endings: Mapping[str, str]) -> str:
    """Links to the files beside the page; of several pictures only to their folder."""
    if len(names) > 1:
        return f'<p class="files"><a href="{folder}/">{len(names)} files in {folder}/</a></p>\n'
    links = [f'<a href="{folder}/{names[0]}.{end}">{word}</a>' for end, word in endings.items()]
    return f'<p class="files">{" · ".join(links)}</p>\n'
