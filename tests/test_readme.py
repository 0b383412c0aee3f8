"""The README is true: its commands are understood, its links lead somewhere, its errors are raised somewhere."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands_in_text import ROOT, assert_understood, commands, links

README = (ROOT / "README.md").read_text(encoding="utf-8")

ELSEWHERE = {
    "Error displaying widget": Path("share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager/static"),
    "The port %i is already in use": Path("jupyter_server"),
    "Unexpected output fields from running code": Path("nbval"),
}
"""Texts that are not ours, and the part of an installation that shows them."""


def troubles() -> list[str]:
    """The texts by which the table of troubles is keyed."""
    section = README.partition("## When something goes wrong")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.M)


def sources(text: str) -> Iterator[Path]:
    if text not in ELSEWHERE:
        yield ROOT / "Makefile"
        yield from (path for room in ("dwdp_lab", "kernels") for path in (ROOT / room).rglob("*.py"))
        return
    folders = [Path(sysconfig.get_path(name)) / ELSEWHERE[text] for name in ("data", "purelib")]
    yield from (path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".js"))


@pytest.mark.parametrize("text", troubles())
def test_an_error_of_the_table_is_still_raised(text: str) -> None:
    assert any(text in path.read_text(encoding="utf-8", errors="replace") for path in sources(text))


def test_the_table_says_what_to_do() -> None:
    assert len(troubles()) >= 15
    assert len(troubles()) == len(set(troubles()))
    section = README.partition("## When something goes wrong")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 4 for row in rows)


@pytest.mark.parametrize("command", sorted(set(commands(README))))
def test_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_understood(command, monkeypatch)


def test_links_lead_somewhere() -> None:
    assert not [link for link in links(README) if not (ROOT / link).exists()]


def test_every_notebook_is_in_it() -> None:
    notebooks = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert notebooks <= set(links(README))


def test_commands_that_are_wrong_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "`make no-such-target`\n```console\n$ dwdp-lab doctor --quick  # oh\n```\n`dwdp-lab run --model ...` `make lab`"
    )
    assert commands(text) == ["dwdp-lab doctor --quick", "make no-such-target", "make lab"]
    with pytest.raises(AssertionError):
        assert_understood("make no-such-target", monkeypatch)
    with pytest.raises(SystemExit):
        assert_understood("dwdp-lab doctor --quick", monkeypatch)
    assert_understood("dwdp-lab doctor --json -", monkeypatch)
