"""Installed packages: their versions, whether they fit each other, and the halves of widgets that live in JupyterLab.

Read from what installers wrote down; nothing is imported, so that a broken package cannot stop this.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from packaging.requirements import Requirement

FRONT_ENDS = {
    "jupyterlab-widgets": "@jupyter-widgets/jupyterlab-manager",
    "anywidget": "anywidget",
}
"""Python package to the extension of JupyterLab that it brings."""

ALSO = ("jupyterlab-widgets", "ipykernel", "cuda-bindings", "cuda-python", "nvidia-ml-py")
"""Looked up beside what dwdp-lab itself asks for."""


class PackageFacts(NamedTuple):
    """`wanted` maps each group of pyproject (`core`, `ranks`, ...) to its packages; versions are None when missing."""

    installed: dict[str, str | None]
    wanted: dict[str, tuple[str, ...]]
    misfits: tuple[str, ...]
    front_ends: dict[str, str | None]
    disabled: tuple[str, ...]
    jupyter_elsewhere: bool
    """`jupyter-lab` on the PATH belongs to another Python."""


def probe() -> PackageFacts:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    wanted: dict[str, list[str]] = {}
    needed: dict[str, list[Requirement]] = {}
    for text in _asked_for():
        requirement = Requirement(text)
        name = str(canonicalize_name(requirement.name))
        group = _group(requirement)
        if name != "dwdp-lab" and (requirement.marker is None or requirement.marker.evaluate({"extra": group})):
            wanted.setdefault(group or "core", []).append(name)
            needed.setdefault("dwdp-lab", []).append(requirement)
    names = {name for group in wanted.values() for name in group}
    for name in sorted({*names, *ALSO}):
        if _version(name) is not None:
            needed[name] = [
                each
                for each in map(Requirement, importlib.metadata.requires(name) or ())
                if each.marker is None or each.marker.evaluate({"extra": ""})
            ]
    folder = Path(sys.prefix) / "share" / "jupyter" / "labextensions"
    on_path = shutil.which("jupyter-lab")
    return PackageFacts(
        installed={name: _version(name) for name in sorted({*names, *ALSO})},
        wanted={group: tuple(members) for group, members in wanted.items()},
        misfits=tuple(_misfits(needed)),
        front_ends={name: _front_end(folder / extension) for name, extension in FRONT_ENDS.items()},
        disabled=tuple(_disabled()),
        jupyter_elsewhere=on_path is not None and Path(on_path).parent != Path(sys.executable).parent,
    )


def _asked_for() -> list[str]:
    """What dwdp-lab requires; nothing is known where it runs from its folder without being installed."""
    try:
        return importlib.metadata.requires("dwdp-lab") or []
    except importlib.metadata.PackageNotFoundError:
        return []


def _group(requirement: Requirement) -> str:
    """The extra that a requirement of dwdp-lab belongs to; empty for the core."""
    _, _, extra = str(requirement).partition("extra ==")
    return extra.strip().strip("\"')")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _misfits(needed: dict[str, list[Requirement]]) -> Iterator[str]:
    """`A 1.0 needs B>=2, and B 1.5 is installed`. What is missing altogether is told elsewhere for dwdp-lab."""
    for name, requirements in needed.items():
        for requirement in requirements:
            found = _version(requirement.name)
            of = name if name == "dwdp-lab" else f"{name} {_version(name)}"
            what = f"{of} needs {requirement.name}{requirement.specifier}"
            if found is None:
                if name != "dwdp-lab":
                    yield f"{what}, which is not installed"
            elif not requirement.specifier.contains(found, prereleases=True):
                yield f"{what}, and {found} is installed"


def _front_end(folder: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / "package.json").read_text(encoding="utf-8"))["version"])
    return None


def _disabled() -> Iterator[str]:
    """Widget extensions that somebody has switched off in JupyterLab's settings."""
    with contextlib.suppress(ImportError):
        from jupyter_core.paths import jupyter_config_path

        for folder in jupyter_config_path():
            with contextlib.suppress(OSError, ValueError, AttributeError):
                page = json.loads((Path(folder) / "labconfig" / "page_config.json").read_text(encoding="utf-8"))
                off = page.get("disabledExtensions", {})
                yield from (name for name, is_off in off.items() if is_off and name in FRONT_ENDS.values())
