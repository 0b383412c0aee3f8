"""pyproject.toml, constraints.txt, environment.yml and the tree say the same."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dwdp_lab import __version__

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def direct_dependencies(but: str = "") -> dict[str, Requirement]:
    """What pyproject.toml asks for, in all extras but one."""
    extras = PROJECT["project"]["optional-dependencies"].items()
    lines = [*PROJECT["project"]["dependencies"], *(line for name, extra in extras if name != but for line in extra)]
    found = {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}
    return {name: needed for name, needed in found.items() if name != "dwdp-lab"}


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    split = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in split}


def conda_lines() -> tuple[list[Requirement], list[Requirement]]:
    """What environment.yml takes from conda-forge, and what from pip."""
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    by_conda = [each for each in environment["dependencies"] if isinstance(each, str)]
    by_pip = [line for each in environment["dependencies"] if isinstance(each, dict) for line in each["pip"]]
    return [Requirement(line) for line in by_conda], [Requirement(line) for line in by_pip if line[0] != "-"]


def conda_names() -> set[str]:
    return {canonicalize_name(line.name) for lines in conda_lines() for line in lines}


def test_every_direct_dependency_has_a_tested_version_that_is_accepted() -> None:
    tested = pins()
    for name, needed in direct_dependencies().items():
        assert name in tested, f"{name} has no version in constraints.txt"
        assert tested[name] in needed.specifier, f"{name} {tested[name]} is outside {needed.specifier}"


def test_the_conda_environment_forgets_nothing() -> None:
    """But for what drives a browser: that is for those who change the control room."""
    assert not set(direct_dependencies(but="browser")) - conda_names()


def test_the_conda_environment_asks_for_the_same_versions() -> None:
    by_conda, by_pip = conda_lines()
    needed, tested = direct_dependencies(), pins()
    named = {canonicalize_name(line.name): line for line in by_conda}
    for name in needed.keys() & named.keys():
        assert named[name].specifier == needed[name].specifier, f"{name}: as in pyproject.toml"
    assert str(named["python"].specifier).split(",").count(PROJECT["project"]["requires-python"]) == 1
    assert tested["ipykernel"] in named["ipykernel"].specifier
    # what comes from pip has no solver's help: exactly what was tested
    for line in by_pip:
        name = canonicalize_name(line.name)
        assert str(line.specifier) == f"=={tested[name]}"
        assert tested[name] in needed[name].specifier
        assert line.marker == needed[name].marker


def test_every_line_of_the_conda_environment_says_why() -> None:
    lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if re.match(r"\s+- (?!conda-forge|nodefaults|pip:)", line)]
    assert len(wanted) > len(direct_dependencies())
    assert all(" # " in line for line in wanted)


def test_every_package_ships() -> None:
    mapped = {folder: name for name, folder in PROJECT["tool"]["setuptools"]["package-dir"].items()}
    found = {
        ".".join((mapped.get(path.parts[0], path.parts[0]), *path.parts[1:]))
        for path in (
            init.parent.relative_to(ROOT)
            for top in ("dwdp_lab", "kernels", "data")
            for init in (ROOT / top).rglob("__init__.py")
        )
    }
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


def test_the_lab_tells_the_version_of_the_project() -> None:
    assert PROJECT["project"]["version"] == __version__
