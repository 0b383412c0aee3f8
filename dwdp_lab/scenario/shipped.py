"""Files that ship with the package, from data/ (installed as `dwdp_data`)."""

from __future__ import annotations

from pathlib import Path

import dwdp_data


def shipped(folder: str, ending: str) -> dict[str, Path]:
    """Name (without ending) to path of the files of one folder of data/."""
    root = Path(dwdp_data.__file__).parent / folder
    return {path.name.removesuffix(ending): path for path in sorted(root.glob(f"*{ending}"))}
