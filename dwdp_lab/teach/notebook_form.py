"""The one form in which notebooks are kept, so that a change of a notebook is a change of its text."""

from __future__ import annotations

import json
from typing import Any

Notebook = dict[str, Any]
Cell = dict[str, Any]

KEPT_OUTPUTS = ("image/svg+xml", "text/markdown", "text/plain")
WIDGET = "application/vnd.jupyter.widget-view+json"

_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def canonical(notebook: Notebook) -> Notebook:
    """The notebook with nothing in it but text, tags, and outputs of text and SVG.

    Cell ids follow the order of cells; execution times, widget state, versions of Python and of the front end
    go. An output that is a widget goes as a whole: without its kernel it is only a description of itself.
    """
    cells = [_cell(number, cell) for number, cell in enumerate(notebook["cells"])]
    return {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}


def as_text(notebook: Notebook) -> str:
    """The file's content: keys sorted, one space of indentation, a line end at the end."""
    return json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def lines(text: str | list[str]) -> list[str]:
    """A cell's source or an output's text as lines with their line ends, as the format keeps them."""
    return ("".join(text) if isinstance(text, list) else text).splitlines(keepends=True)


def _cell(number: int, cell: Cell) -> Cell:
    tags = sorted(cell.get("metadata", {}).get("tags", []))
    kept: Cell = {
        "cell_type": cell["cell_type"],
        "id": f"cell-{number:02d}",
        "metadata": {"tags": tags} if tags else {},
        "source": lines(cell["source"]),
    }
    if cell["cell_type"] == "code":
        kept["execution_count"] = cell.get("execution_count")
        outputs = [_output(output) for output in cell.get("outputs", [])]
        kept["outputs"] = _joined([output for output in outputs if output is not None])
    return kept


def _joined(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring pieces of one stream as one: how text was cut on its way here is chance."""
    kept: list[dict[str, Any]] = []
    for output in outputs:
        if kept and output["output_type"] == "stream" == kept[-1]["output_type"] and output["name"] == kept[-1]["name"]:
            kept[-1]["text"] = lines([*kept[-1]["text"], *output["text"]])
        else:
            kept.append(output)
    return kept


def _output(output: dict[str, Any]) -> dict[str, Any] | None:
    if output["output_type"] == "stream":
        return {"output_type": "stream", "name": output["name"], "text": lines(output["text"])}
    if output["output_type"] == "error":
        raise ValueError(f"a cell ends in an error: {output['ename']}: {output['evalue']}")
    if WIDGET in output["data"]:
        return None
    data = {kind: lines(output["data"][kind]) for kind in KEPT_OUTPUTS if kind in output["data"]}
    if not data:
        return None
    kept = {"output_type": output["output_type"], "data": data, "metadata": {}}
    if output["output_type"] == "execute_result":
        kept["execution_count"] = output["execution_count"]
    return kept
