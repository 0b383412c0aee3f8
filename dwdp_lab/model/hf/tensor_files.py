"""Which file of a checkpoint folder holds which tensor, and whether the files are whole: told without torch, and
without reading a weight.

The format: https://huggingface.co/docs/safetensors, "Format": a file begins with the length of its header (8 bytes, the
lowest first), then comes the header in JSON, then all tensors' bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dwdp_lab.scenario.errors import ScenarioError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
AGAIN = "download it again"


def refused(folder: Path, allowed: str, hint: str = AGAIN) -> ScenarioError:
    """What is wrong with a checkpoint, to be raised."""
    return ScenarioError("model", str(folder), allowed, hint)


def file_of_tensors(folder: Path) -> dict[str, str]:
    """The file of each tensor by name. As transformers does, the single file is taken where an index lies beside it.

    Raises ScenarioError (field `model`) for a folder that has neither, or in which they cannot be read.
    """
    if (folder / SINGLE).is_file():
        return dict.fromkeys(_header(folder, SINGLE), SINGLE)
    if not (folder / INDEX).is_file():
        raise refused(folder, f"has neither {INDEX} nor {SINGLE}", "give the folder that config.json is in")
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise refused(folder, f"its {INDEX} cannot be read: {type(error).__name__}: {error}") from None


def check_files(folder: Path) -> None:
    """Raises ScenarioError (field `model`) unless all files are there, and as long as their headers say."""
    for file in sorted(set(file_of_tensors(folder).values())):
        if not (folder / file).is_file():
            raise refused(folder, f"lacks its file {file}")
        _header(folder, file)


def _header(folder: Path, file: str) -> dict[str, Any]:
    """Each tensor's entry by its name; of a file that is whole."""
    path = folder / file
    try:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            size = path.stat().st_size
            if 8 + length > size:
                raise ValueError(f"its header should be {length} bytes long, and the file is {size}")
            header: dict[str, Any] = json.loads(opened.read(length))
        header.pop("__metadata__", None)
        due = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if due != size:
            raise ValueError(f"it should be {due} bytes long, and is {size}")
    except (ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise refused(folder, f"has {file}, which is no whole safetensors file: {error}") from None
    return header
