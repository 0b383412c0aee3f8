"""The commands that a Markdown text tells its reader to type, and whether they would be understood."""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from pathlib import Path
from typing import NoReturn

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.cli.predict import predicted_scenario
from dwdp_lab.cli.scenario_options import scenario_from

ROOT = Path(__file__).resolve().parent.parent
OURS = ("dwdp-lab", "make", "python -m")
PLACEHOLDERS = ("my.yaml", "path/to/")
"""Files that stand for the reader's own: such a command's options are read, its scenario is not made."""


class Parsed(Exception):  # noqa: N818 - no error: where reading a command ends
    """The options of a command that was read but is not to be run."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options


def commands(text: str) -> list[str]:
    """Every command of this project in console blocks and in code between words; `...` ones are no commands."""
    blocks = re.findall(r"```console\n(.*?)```", text, flags=re.S)
    typed = [line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    words = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    plain = [_without_setting(command.partition("  #")[0].strip()) for command in (*typed, *words)]
    parts = [part.strip() for command in plain for part in command.split("&&")]
    return [part for part in parts if part.startswith(OURS) and "..." not in part]


def _without_setting(command: str) -> str:
    """Without `NAME=value` before it and the folder of the environment."""
    return re.sub(r"^([A-Z_]+=\S+ )+", "", command).removeprefix(".venv/bin/")


def assert_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its target exists, its module exists, or its options are those of `dwdp-lab` and make a scenario."""
    program, *arguments = shlex.split(command)
    if program == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
        assert {each for each in arguments if "=" not in each} <= targets, command
    elif program == "python":
        assert importlib.util.find_spec(arguments[1]) is not None, command
    elif arguments:
        options = _read(arguments, monkeypatch)
        if any(word in command for word in PLACEHOLDERS):
            return
        if options.command == "run":
            scenario_from(options)
        elif options.command == "predict":
            predicted_scenario(options)


def _read(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    parse = argparse.ArgumentParser.parse_args

    def stop_there(parser: argparse.ArgumentParser, given: list[str]) -> NoReturn:
        raise Parsed(parse(parser, given))

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", stop_there)
        with pytest.raises(Parsed) as read:
            main(arguments)
    return read.value.options


def links(text: str) -> list[str]:
    """Files of this project that a text links to."""
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target.partition("#")[0] for target in targets if "://" not in target and not target.startswith("#")]
