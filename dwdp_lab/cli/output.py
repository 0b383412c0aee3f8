"""Where figures go: a table for people, JSON for programs, files for pictures and traces."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from dwdp_lab.scenario.errors import ScenarioError


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add `--json FILE|-`, the same on every command that gives figures."""
    parser.add_argument(
        "--json", metavar="FILE|-", help="write the figures as JSON; `-` writes JSON alone to standard output"
    )


def console_for(options: argparse.Namespace) -> Console:
    """The console for people: standard error when standard output carries JSON."""
    console = Console(stderr=options.json == "-", highlight=False)
    return console if console.is_terminal else Console(stderr=console.stderr, highlight=False, width=110)


def check_json(options: argparse.Namespace) -> None:
    """Raise ScenarioError before any work is done when what `--json` names could not be written in the end."""
    check_writable("--json", None if options.json in (None, "-") else Path(options.json))


def emit(options: argparse.Namespace, figures: dict[str, Any], show: Callable[[Console], None]) -> None:
    """Write the figures where `--json` says, and show them to people unless standard output carries JSON."""
    write_json(options, figures)
    if options.json != "-":
        show(console_for(options))


def write_json(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Write the figures where `--json` says, if it was given."""
    if options.json == "-":
        print(_json(figures), flush=True)
    elif options.json is not None:
        write_text("--json", Path(options.json), _json(figures) + "\n")


def short(value: float) -> str:
    """Four digits that count, no more than a reader can use."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _json(figures: dict[str, Any]) -> str:
    return json.dumps(figures, indent=1, allow_nan=False)  # Infinity and NaN are not JSON: rather fail than write them


def check_writable(option: str, path: Path | None) -> None:
    """Raise ScenarioError before any work is done when the file could not be written in the end."""
    if path is None:
        return
    path = path.expanduser()
    if not path.absolute().parent.is_dir():
        raise ScenarioError(option, str(path), "its folder does not exist", "make it, or name another file")
    if path.is_dir():
        raise ScenarioError(option, str(path), "is a folder", "name a file in it")


def write_text(option: str, path: Path, text: str) -> None:
    """Write a file. Raises ScenarioError (field: the option) when that is not possible."""
    try:
        path.expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(option, str(path), f"cannot be written: {error.strerror}") from None


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what goes on, on a terminal only. Yields a function that changes the text."""
    with Console(stderr=True).status(what) as status:
        yield status.update
