"""Where figures go: a table for people, JSON for programs, files for pictures and traces."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
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


def write_json(options: argparse.Namespace, figures: dict[str, Any]) -> None:
    """Write the figures where `--json` says, if it was given."""
    if options.json == "-":
        sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    elif options.json is not None:
        write_text("--json", Path(options.json), json.dumps(figures, indent=1) + "\n")


def check_writable(option: str, path: Path | None) -> None:
    """Raise ScenarioError before any work is done when the file could not be written in the end."""
    if path is not None and not path.expanduser().absolute().parent.is_dir():
        raise ScenarioError(option, str(path), "its folder does not exist", "make it, or name another file")


def write_text(option: str, path: Path, text: str) -> None:
    """Write a file. Raises ScenarioError (field: the option) when that is not possible."""
    try:
        path.expanduser().write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScenarioError(option, str(path), f"cannot be written: {error.strerror}") from None


@contextmanager
def working(console: Console, what: str) -> Iterator[Any]:
    """A line that says what goes on, shown on a terminal only. Yields a function that changes the text."""
    with console.status(what) as status:
        yield status.update
