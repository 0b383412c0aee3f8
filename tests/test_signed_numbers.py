"""A number that is shown with its sign and rounds to zero is +0, also where it was a little below."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted([*ROOT.glob("dwdp_lab/**/*.py"), *ROOT.glob("kernels/**/*.py")])


def signed_formats(code: str) -> Iterator[tuple[int, str]]:
    """Line and text of each f-string's format that rounds a number and shows its sign, such as `+.1f`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FormattedValue) and isinstance(node.format_spec, ast.JoinedStr):
            parts = (str(part.value) if isinstance(part, ast.Constant) else "N" for part in node.format_spec.values)
            text = "".join(parts)
            if "+" in text and text.endswith(("f", "e", "g", "%")):
                yield node.lineno, text


def test_formats_are_found() -> None:
    code = 'a = f"{x:+.1f} % {y:>+{width}.2f}"\nb = f"{x:.1f} {n:+d} {z:+z,.0f}"'
    assert sorted(signed_formats(code)) == [(1, "+.1f"), (1, ">+N.2f"), (2, "+z,.0f")]


def test_no_format_can_show_minus_zero() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in SOURCES
        for line, text in signed_formats(path.read_text(encoding="utf-8"))
        if "z" not in text
    ]
    assert not wrong, "write +z instead of +: a little less than zero is shown as +0 then"
