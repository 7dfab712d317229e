"""A report on runs: one page that needs nothing beside it, and its tables and figures as files."""

import os
import shutil
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from experiments.errors import CommandError, interrupted
from experiments.reporting.chapters import Chapter, chapters
from experiments.reporting.ledger import commands, failures
from experiments.reporting.page import MARK, page
from experiments.reporting.plates import Panel
from experiments.reporting.published import Published, published_values
from experiments.reporting.runs import Run, find_runs, unfinished
from experiments.reporting.tables import Table

_PIECES = ("figures", "tables", "index.html")


def report(words: Sequence[str]) -> Path:
    """Writes the report that ``fedcl report RUN_OR_FOLDER... [--out DIR]`` asks for.

    Without ``--out`` it goes to ``reports/`` and the first folder's name, from where one is.

    Returns:
        The page.

    Raises:
        CommandError: If a word is wrong, a folder is missing, or there is no run in any.
    """
    folders, out = _understood(words)
    signal.signal(signal.SIGTERM, interrupted)  # so that nothing half-written stays
    return write_report(folders, out)


def _understood(words: Sequence[str]) -> tuple[list[Path], Path]:
    """The folders and where the report goes."""
    folders, outs = list[Path](), list[Path]()
    rest = iter(words)
    for word in rest:
        if word == "--out":
            outs.append(Path(next(rest, "")))
        elif word.startswith("-"):
            raise CommandError(f"an option of report must be --out DIR, got {word}")
        else:
            folders.append(Path(word))
    if not folders:
        raise CommandError("report must be given a run or a folder of runs, got none")
    if len(outs) > 1 or Path() in outs:
        shown = " ".join(str(out) for out in outs) if len(outs) > 1 else "none"
        raise CommandError(f"--out must be followed by one folder, got {shown}")
    return folders, outs[0] if outs else Path("reports") / folders[0].resolve().name


def write_report(
    runs: Sequence[Path],
    out: Path,
    title: str = "FedCL report",
    published: Sequence[Published] = (),
) -> Path:
    """Writes index.html, figures/ and tables/ under ``out`` and returns the page's path.

    Everything is made in a folder beside ``out`` and moved when it is whole. Of an earlier report
    in ``out`` these three are replaced; other files there stay.

    Args:
        runs: Run folders, or folders that hold some at any depth.
        out: The report's folder; new, empty, or an earlier report's.
        title: The page's heading.
        published: What others printed of such runs.

    Raises:
        CommandError: If there is no run, a record is malformed, or ``out`` is no report's folder.
    """
    found, begun = find_runs(runs), unfinished(runs)
    values = published_values(published, found)
    with _staged(out) as folder:
        made = chapters(found)
        text = page(found, made, title, values, begun)
        (folder / "index.html").write_text(text, encoding="utf-8")
        _write_files(found, made, values, folder)
    return out / "index.html"


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yields a new folder beside ``out`` and moves what it holds into ``out`` at the end."""
    check_out(out)
    folder = out.parent / f".{out.name}.{os.getpid()}"
    _make(folder)
    try:
        yield folder
        out.mkdir(exist_ok=True)
        for piece in _PIECES:
            _replace(folder / piece, out / piece)
    finally:
        shutil.rmtree(folder)


def check_out(out: Path) -> None:
    """Refuses a report's folder that can't be, and makes the folder it is to lie in.

    Raises:
        CommandError: If ``out`` holds something else, or can't be made.
    """
    index = out / "index.html"
    ours = index.is_file() and MARK in index.read_text(encoding="utf-8")
    if out.exists() and not ours and (not out.is_dir() or any(out.iterdir())):
        raise CommandError(f"out must be a new or empty folder or an earlier report, got {out}")
    _make(out.parent)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"out must be a folder that can be made: {error}") from error


def _replace(new: Path, old: Path) -> None:
    if old.is_dir():
        shutil.rmtree(old)
    new.replace(old)


def _write_files(
    runs: Sequence[Run], made: Sequence[Chapter], published: Table | None, folder: Path
) -> None:
    tables = [table for chapter in made for table in chapter.tables]
    tables += [table for table in (published, failures(runs), commands(runs)) if table]
    _write_tables(tables, folder / "tables")
    plates = [plate for chapter in made for plate in chapter.plates]
    _write_figures((panel for plate in plates for panel in plate.panels), folder / "figures")


def _write_tables(tables: Iterable[Table], folder: Path) -> None:
    folder.mkdir()
    for table in tables:
        (folder / f"{table.name}.csv").write_text(table.csv(), encoding="utf-8")
        (folder / f"{table.name}.md").write_text(table.markdown(), encoding="utf-8")


def _write_figures(panels: Iterable[Panel], folder: Path) -> None:
    folder.mkdir()
    for panel in panels:
        (folder / f"{panel.name}.png").write_bytes(panel.png)
        (folder / f"{panel.name}.svg").write_bytes(panel.svg)
