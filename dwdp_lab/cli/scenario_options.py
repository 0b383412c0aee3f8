"""Options that commands with a scenario share: `--scenario FILE`, `--set key=value`, `--ranks N`, `--physics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario, read_yaml, set_field
from dwdp_lab.simulate.physics import FORM, Physics, physics_named


def add_scenario_options(parser: argparse.ArgumentParser) -> None:
    """Add the options; `scenario_from` reads them."""
    group = parser.add_argument_group("scenario")
    group.add_argument("--scenario", type=Path, metavar="FILE", help="scenario in YAML (default: tiny, two ranks)")
    group.add_argument("--model", metavar="NAME|FILE", help="preset, or a Hugging Face config.json")
    group.add_argument("--ranks", type=int, metavar="N", help="ranks of the group")
    group.add_argument(
        "--hardware",
        metavar="PROFILE",
        help="profile of the simulator, or a JSON file of one (default: h100)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one field, such as strategy.slots=3 or model.layers=60; may be repeated",
    )


def scenario_from(options: argparse.Namespace) -> Scenario:
    """The scenario the options describe: the file, then --model, --ranks and --hardware, then every --set.

    Raises ScenarioError for anything that cannot be used.
    """
    fields: dict[str, Any] = {"model": "tiny"}
    if options.scenario is not None:
        fields |= read_yaml(options.scenario)
    if options.model is not None:
        fields["model"] = options.model
    if options.ranks is not None:
        set_field(fields, "group.ranks", options.ranks)
    if options.hardware is not None:
        fields["hardware"] = options.hardware
    for assignment in options.set:
        path, equals, text = assignment.partition("=")
        if not equals or not path:
            raise ScenarioError("--set", assignment, "needs KEY=VALUE, such as strategy.slots=3")
        set_field(fields, path.strip(), _value(text))
    return Scenario.create(fields)


def add_physics_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add `--physics`; `physics_from` reads it."""
    parser.add_argument(
        "--physics", metavar="NAME[,SWITCH=on|off]", help=f"the simulator's effects: {FORM} ({default})"
    )


def physics_from(options: argparse.Namespace) -> Physics | None:
    """The physics that `--physics` names; None where it was not given. Raises ScenarioError for what names none."""
    return None if options.physics is None else physics_named(options.physics)


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
