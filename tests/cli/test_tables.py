"""Tables keep every digit on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.tables import print_table

COLUMNS = ("strategy", "step ms", "tokens/s per GPU", "exposed\ncopy", "memory GB")
ROW = ("weight_gather", "136,781", "10,739,365", "0.02109", "1069")


def _printed(width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    table = Table(title="milliseconds per step")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_row(*ROW)
    print_table(console, table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [20, 30, 40, 50, 56, 57, 60, 62, 63, 70, 80, 110])
def test_no_figure_loses_a_digit_and_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = _printed(width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).replace(",\n", ", ").split()
    for cell in ROW:
        assert any(cell in word for word in words)
    assert "…" not in "".join(lines)


def test_a_wide_terminal_gets_a_frame_a_narrow_one_none_and_a_very_narrow_one_sentences() -> None:
    assert "┃" in "".join(_printed(80))
    narrow = _printed(56)
    assert "┃" not in "".join(narrow)
    assert narrow[-1].split() == list(ROW)
    said = " ".join(" ".join(_printed(40)).split())
    assert "strategy weight_gather: step ms 136,781, tokens/s per GPU 10,739,365, exposed copy 0.02109" in said
