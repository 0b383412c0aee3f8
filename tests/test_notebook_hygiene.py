"""Notebooks are committed small: learners' without outputs, solutions without widget state."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEARNER = sorted(ROOT.glob("notebooks/*.ipynb"))
SOLUTIONS = sorted(ROOT.glob("notebooks/solutions/*.ipynb"))
LARGEST_BYTES = 200_000
MINUS_ZERO = re.compile(r"(?<![\w.-])-0(\.0+)?(?![\w.-])")  # and no part of a date or a name


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return notebook


@pytest.mark.parametrize("path", LEARNER, ids=lambda path: path.name)
def test_learner_notebooks_carry_no_outputs(path: Path) -> None:
    for number, cell in enumerate(read(path)["cells"]):
        if cell["cell_type"] == "code":
            assert not cell["outputs"], f"cell {number} has outputs: clear them before committing"
            assert cell["execution_count"] is None, f"cell {number} has an execution count"


@pytest.mark.parametrize("path", [*LEARNER, *SOLUTIONS], ids=lambda path: path.name)
def test_notebooks_carry_no_widget_state(path: Path) -> None:
    assert "widgets" not in read(path)["metadata"]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.name)
def test_solutions_are_small(path: Path) -> None:
    assert path.stat().st_size < LARGEST_BYTES
    assert "application/vnd.jupyter.widget-state+json" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*LEARNER, *SOLUTIONS], ids=lambda path: path.name)
def test_notebooks_name_no_place_on_a_machine(path: Path) -> None:
    for cell in read(path)["cells"]:
        source = "".join(cell["source"])
        assert not [word for word in ("/home/", "/Users/", "/root/") if word in source]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.name)
def test_outputs_show_no_minus_zero(path: Path) -> None:
    for number, cell in enumerate(read(path)["cells"]):
        for output in cell.get("outputs", []):
            said = ("".join(words) for words in (output.get("text", ""), output.get("data", {}).get("text/plain", "")))
            found = [line for words in said for line in words.splitlines() if MINUS_ZERO.search(line)]
            assert not found, f"cell {number}: write z in the number's format, such as +z.0f"
