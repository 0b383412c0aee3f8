"""From a solution notebook to the learner's: no outputs, and a gap where the learner is to write."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.teach.notebook_form import Cell, Notebook, canonical, lines

BEGIN, END, STUB = "# solution begin", "# solution end", "#: "


def learner(solution: Notebook) -> Notebook:
    """The learner's notebook in canonical form.

    In a solution's code cell, the region

        # solution begin
        #: answer = ...  # what the learner finds
        answer = 42
        # solution end

    becomes its lines that begin with `#: `, without that mark. Raises ValueError for a region that has no
    stub or does not end.
    """
    notebook = canonical({**solution, "cells": [_without_outputs(cell) for cell in solution["cells"]]})
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["source"] = lines("".join(_learner_lines(cell["source"], cell["id"])).removesuffix("\n"))
    return notebook


def _without_outputs(cell: Cell) -> Cell:
    return {**cell, "outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell


def _learner_lines(source: list[str], cell: str) -> Iterator[str]:
    inside, stubs = False, 0
    for line in source:
        text = line.strip()
        if text == BEGIN:
            if inside:
                raise ValueError(f"{cell}: {BEGIN!r} inside a region that has not ended")
            inside, stubs = True, 0
        elif text == END:
            if not inside or not stubs:
                raise ValueError(f"{cell}: {END!r} without {BEGIN!r}, or a region without a stub ({STUB!r})")
            inside = False
        elif not inside:
            yield line
        elif text.startswith(STUB):
            stubs += 1
            yield line.replace(STUB, "", 1)
    if inside:
        raise ValueError(f"{cell}: {BEGIN!r} without {END!r}")
