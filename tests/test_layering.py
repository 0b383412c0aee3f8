"""The rooms import only downwards, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TORCH_FREE = ("scenario", "program", "simulate", "timeline")
BELOW_MEASURE = {"scenario", "program", "simulate", "model", "execute", "timeline", "kernels", "data"}
BELOW_VIEW = BELOW_MEASURE | {"measure"}
MAY_IMPORT: dict[str, set[str]] = {
    "scenario": {"data"},
    "timeline": {"data"},
    "program": {"scenario", "data"},
    "simulate": {"scenario", "program", "timeline", "data"},
    "model": {"scenario", "kernels", "data"},
    "execute": {"scenario", "program", "model", "timeline", "kernels", "data"},
    "measure": BELOW_MEASURE,
    "view": BELOW_VIEW,
    "teach": BELOW_VIEW | {"view"},
    "doctor": BELOW_VIEW | {"view", "teach"},
    "cli": BELOW_VIEW | {"view", "teach", "doctor"},
    "kernels": {"data"},
    "data": set(),
}
"""The table of rooms in CONTRIBUTING.md; a room may also import itself. Everything may read data."""

IN_CUDA: dict[str, set[str]] = {
    "gpu": set(),
    "memory": {"gpu"},
    "compute": {"gpu"},
    "experts": {"gpu", "memory"},
    "meetings": {"gpu", "memory", "compute"},
    "exchanges": {"gpu", "compute", "meetings"},
}
"""The rooms within execute/cuda, likewise. What lies beside them there may import all of them, and none of it they."""

SOURCES = sorted([*ROOT.glob("dwdp_lab/**/*.py"), *ROOT.glob("kernels/**/*.py"), *ROOT.glob("data/**/*.py")])


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, also of those inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            # `from dwdp_lab import scenario` imports a room by its last part
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def room_of(path: Path) -> str | None:
    """The room a file is in; None for dwdp_lab's own files, which may import everything."""
    top, *rest = path.relative_to(ROOT).parts
    if top != "dwdp_lab":
        return top
    return rest[0] if len(rest) > 1 else None


def room_named(name: str) -> str | None:
    """The room that an import reaches; None for other packages."""
    top, *rest = name.split(".")
    if top in ("dwdp_kernels", "dwdp_data"):
        return top.removeprefix("dwdp_")
    if top != "dwdp_lab" or rest == ["__version__"]:
        return None
    # names of the package itself (Scenario, ...) are lazy: they could reach any room, so no room uses them
    return rest[0] if rest else "dwdp_lab"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_downwards(path: Path) -> None:
    room = room_of(path)
    if room is None:
        return
    allowed = MAY_IMPORT[room] | {room}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imported(path)
        if (reached := room_named(name)) is not None and reached not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("room", IN_CUDA)
def test_rooms_of_the_cuda_machine_import_only_downwards(room: str) -> None:
    cuda = "dwdp_lab.execute.cuda."
    paths = [path for path in SOURCES if path.parent == ROOT / "dwdp_lab" / "execute" / "cuda" / room]
    assert paths
    names = {name for path in paths for _, name in imported(path) if name.startswith(cuda)}
    assert {name.removeprefix(cuda).split(".")[0] for name in names} <= IN_CUDA[room] | {room}


def test_every_room_of_the_cuda_machine_is_in_its_table() -> None:
    cuda = ROOT / "dwdp_lab" / "execute" / "cuda"
    assert {path.name for path in cuda.iterdir() if (path / "__init__.py").is_file()} == set(IN_CUDA)


def test_the_wheel_has_every_package() -> None:
    fields = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = {fields["package-dir"].get(name, name.replace(".", "/")) for name in fields["packages"]}
    assert listed == {path.parent.relative_to(ROOT).as_posix() for path in SOURCES}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_stays_in_its_rooms(path: Path) -> None:
    if room_of(path) not in (*TORCH_FREE, "data"):
        return
    assert not [name for _, name in imported(path) if name.split(".")[0] in ("torch", "triton")]


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in (ROOT / "dwdp_lab").iterdir() if (path / "__init__.py").is_file()}
    assert rooms <= set(MAY_IMPORT)


def test_nothing_imports_the_name_kernels() -> None:
    # a package of that name is Hugging Face's, and transformers imports it
    files = [*SOURCES, *ROOT.glob("tests/**/*.py")]
    assert not [f"{path}:{line}" for path in files for line, name in imported(path) if name.split(".")[0] == "kernels"]


def modules_after(statement: str) -> set[str]:
    """Top-level modules loaded in a fresh interpreter after `statement`."""
    code = f"{statement}\nimport sys\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_torch_nor_pydantic() -> None:
    assert not {"torch", "pydantic", "numpy", "plotly"} & modules_after("import dwdp_lab")


def test_lazy_names_load_when_used() -> None:
    loaded = modules_after("from dwdp_lab import Scenario; Scenario.create()")
    assert "pydantic" in loaded
    assert "torch" not in loaded


def test_every_exported_name_exists() -> None:
    import dwdp_lab

    for name in dwdp_lab.__all__:
        assert getattr(dwdp_lab, name) is not None
    assert set(dwdp_lab.__all__) <= set(dir(dwdp_lab))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = dwdp_lab.no_such_name


@pytest.mark.parametrize("room", TORCH_FREE)
def test_torch_free_rooms_load_without_torch(room: str) -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SOURCES
        if room_of(path) == room and path.name != "__init__.py"
    ]
    assert modules
    loaded = modules_after("\n".join(f"import {name}" for name in modules))
    assert not {"torch", "triton"} & loaded
