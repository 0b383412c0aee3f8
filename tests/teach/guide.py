"""The instructor's guide, read: its tables, and its figures beside what their commands give now.

`python tests/teach/guide.py` renews the figures after a change of the simulator.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from dwdp_lab.cli.main import main
from dwdp_lab.teach.exercise import Exercise
from dwdp_lab.teach.lesson import LESSONS, Lesson, lesson

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "notebooks" / "INSTRUCTORS.md"

FIGURE = re.compile(
    r"^- (?P<words>.+): \*\*(?P<value>[-\d.,]+)\*\*.*\(`(?P<source>[^`]+)`, `(?P<path>[\w.]+)`\)$", re.M
)


class Times(NamedTuple):
    """Minutes of a notebook: what its first cell says of reading it, and what its exercises' descriptions add up to."""

    reading: int
    exercises: int


def lessons() -> dict[str, Lesson]:
    """Every lesson by its notebook."""
    every = [lesson(name, keep_progress=False) for name in LESSONS]
    return {each.notebook: each for each in every}


def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by its number."""
    return {each.number: each for found in lessons().values() for each in found.exercises.values()}


@functools.cache
def times(notebook: str) -> Times:
    """Of one notebook."""
    solution = json.loads((ROOT / "notebooks" / "solutions" / notebook).read_text(encoding="utf-8"))
    first = "".join(solution["cells"][0]["source"])
    reading = re.search(r"(\d+) to read", first) or re.search(r"about (\d+) minutes", first)
    assert reading is not None, f"{notebook}: its first cell does not say how long it takes"
    found = lessons().get(notebook)
    return Times(int(reading[1]), sum(each.minutes for each in found.exercises.values()) if found else 0)


def section(text: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    level = heading.partition(" ")[0]
    below = text.partition(f"\n{heading}\n")[2]
    assert below, f"no heading {heading!r}"
    return re.split(rf"^#{{1,{len(level)}}} ", below, maxsplit=1, flags=re.M)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, without their heads."""
    found = [line.strip().strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in row] for row in found]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("-: ")]
    heads = {number - 1 for number in rules} | set(rules)
    return [row for number, row in enumerate(cells) if number not in heads]


@functools.cache
def _output(source: str) -> Any:
    if source.startswith("data/"):
        return json.loads((ROOT / source).read_text(encoding="utf-8"))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main([*source.split()[1:], "--json", "-"]) == 0, source
    return json.loads(said.getvalue())


def value_now(source: str, path: str) -> float:
    """What a command, or a file of the project, gives at a path such as `rows.0.dep_ms`."""
    value = _output(source)
    for key in path.split("."):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return float(value)


def _renewed(figure: re.Match[str]) -> str:
    digits = len(figure["value"].partition(".")[2])
    now = f"{value_now(figure['source'], figure['path']):,.{digits}f}"
    return figure[0].replace(f"**{figure['value']}**", f"**{now}**")


def renewed(text: str) -> str:
    """The guide with every figure as it is now, with as many digits as it had."""
    return FIGURE.sub(_renewed, text)


if __name__ == "__main__":
    GUIDE.write_text(renewed(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
