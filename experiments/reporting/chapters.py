"""A chapter is a section with what is shown of it: which tables, which figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from experiments.reporting.budgets import accuracy_within
from experiments.reporting.comparisons import bytes_to_reach
from experiments.reporting.differences import differences
from experiments.reporting.figures import plates
from experiments.reporting.frugality import frugality
from experiments.reporting.plates import Plate
from experiments.reporting.runs import Run
from experiments.reporting.sections import Section, sections, slug
from experiments.reporting.styles import Palette
from experiments.reporting.summaries import across, costs, summary, transfer
from experiments.reporting.tables import Table
from experiments.reporting.trust import trust

_TABLES: Mapping[str, Sequence[Callable[[Section], Table | None]]] = {
    "distillation": (summary, across),
    "federated": (
        summary,
        differences,
        frugality,
        trust,
        accuracy_within,
        bytes_to_reach,
    ),
    "continual": (summary, differences, costs),
    "federated_continual": (summary, transfer, differences),
}


@final
@dataclass(frozen=True)
class Chapter:
    """A section with what is shown of it.

    Attributes:
        section: The arms.
        tables: The summary first.
        plates: The figures.
        colours: Each arm's colour in the figures, by label.
    """

    section: Section
    tables: tuple[Table, ...]
    plates: tuple[Plate, ...]
    colours: Mapping[str, str]

    def anchor(self, plate: Plate) -> str:
        """Returns the name by which the page links to a plate."""
        return slug(f"{self.section.slug} {plate.title}")


def chapters(runs: Sequence[Run]) -> tuple[Chapter, ...]:
    """Returns the chapters of a report; a method looks the same in all of them."""
    found = sections(runs)
    palette = Palette.of(arm.method for section in found for arm in section.arms)
    return tuple(_chapter(section, palette) for section in found)


def _chapter(section: Section, palette: Palette) -> Chapter:
    made = [make(section) for make in _TABLES[section.scenario]] if section.arms else []
    colours = {label: look.colour for label, look in palette.of_arms(section.arms).items()}
    kept = tuple(table for table in made if table)
    return Chapter(section, kept, plates(section, palette), colours)
