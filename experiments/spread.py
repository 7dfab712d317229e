"""How the images of classes are spread over clients, as text that fits a terminal."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

SHADES = "\N{MIDDLE DOT}░▒▓█"
MOST_ROWS, MOST_NUMBERS, MOST_COLUMNS = 20, 10, 60


def spread_text(counts: Tensor, row: str = "client") -> str:
    """Returns a heat map of images by client and class, no wider than 80 columns.

    More than MOST_ROWS clients are told by some of them, from the one with the most images to
    the one with the fewest; more than MOST_NUMBERS classes by their shades alone, and more than
    MOST_COLUMNS by groups of neighbours.

    Args:
        counts: Images, ``(clients, classes)``.
        row: What a row is.
    """
    shown = _rows(counts)
    numbers = counts.shape[1] <= MOST_NUMBERS
    table = counts if numbers else _grouped(counts)
    most = int(table.max())
    lines = [_head(table.shape[1], row, numbers)]
    for index in shown:
        cells = (_cell(int(n), most, numbers) for n in table[index])
        lines.append(f"{index:>8} {''.join(cells)} {int(counts[index].sum()):>8,}")
    return "\n".join([*lines, *_notes(counts, shown, numbers, most)])


def _rows(counts: Tensor) -> list[int]:
    clients = len(counts)
    if clients <= MOST_ROWS:
        return list(range(clients))
    order = counts.sum(1).argsort(descending=True, stable=True)
    places = torch.linspace(0, clients - 1, MOST_ROWS).round().long()
    return [int(client) for client in order[places]]


def _grouped(counts: Tensor) -> Tensor:
    width = -(-counts.shape[1] // MOST_COLUMNS)
    return torch.stack([group.sum(1) for group in torch.split(counts, width, dim=1)], dim=1)


def _head(columns: int, row: str, numbers: bool) -> str:
    classes = "".join(f"{c:>6}" for c in range(columns)) if numbers else f"{'classes':<{columns}}"
    return f"{row:>8} {classes} {'images':>8}"


def _cell(images: int, most: int, numbers: bool) -> str:
    shade = SHADES[-(-images * (len(SHADES) - 1) // most)]
    return f"{images or '':>5}{shade}" if numbers else shade


def _notes(counts: Tensor, shown: Sequence[int], numbers: bool, most: int) -> Iterator[str]:
    if not numbers:
        yield f"shades: {SHADES[0]} none, {SHADES[-1]} up to {most:,}"
    if len(shown) < len(counts):
        yield f"{len(shown)} of {len(counts)}, from most images to fewest"
