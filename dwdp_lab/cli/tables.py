"""Tables on terminals of any width: words wrap, lines between columns go, and no figure ever loses a digit."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

FRAME = 3
"""Columns of the terminal that a framed table takes beside each column's words."""

GAP = 2
"""The same without the frame."""


def print_table(console: Console, table: Table) -> None:
    """Print a table; on a narrow terminal without its frame, on one narrower still each row as a sentence.

    Left alone, rich cuts figures to fit (`16,0…`). Here a column is as wide as its longest word or wider.
    """
    least, most = zip(*(_widths(console, column) for column in table.columns), strict=True)
    room = console.width - FRAME * len(least) - 1
    if sum(most) <= room:
        console.print(table)
        return
    if sum(least) > room:
        table.box, table.padding, table.pad_edge = None, (0, GAP, 0, 0), False
        room = console.width - GAP * len(least)
    if sum(least) > room:
        _print_rows(console, table)
        return
    spare = room - sum(least)
    for index in sorted(range(len(least)), key=lambda each: most[each] - least[each]):  # few columns wrap, not many
        table.columns[index].width = width = least[index] + min(spare, most[index] - least[index])
        spare -= width - least[index]
    console.print(table)


def _widths(console: Console, column: Column) -> tuple[int, int]:
    """Of the column's longest word, and of its longest line."""
    cells = [console.measure(cell) for cell in (column.header, *column.cells)]
    return max(cell.minimum for cell in cells), max(cell.maximum for cell in cells)


def _print_rows(console: Console, table: Table) -> None:
    """The first cell, then every other with its column's name."""
    if table.title is not None:
        console.print(table.title, style="italic")
    names = [" ".join(_plain(column.header).split()) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = (_plain(cell) for cell in row)
        said = ", ".join(f"{name} {cell}" for name, cell in zip(names[1:], others, strict=True) if cell)
        console.print(f"{names[0]} {first}: {said}".lstrip(), markup=False)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else Text.from_markup(str(cell)).plain
