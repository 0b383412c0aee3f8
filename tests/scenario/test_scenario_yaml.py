"""Scenarios in and out of YAML, and changed field by field."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from scenarios import scenario_fields

from dwdp_lab.scenario import Scenario, ScenarioError
from dwdp_lab.scenario.scenario import field_paths, read_yaml, set_field


@settings(max_examples=150, deadline=None)
@given(scenario_fields())
def test_any_scenario_survives_yaml_json_and_pickle(fields: dict[str, Any]) -> None:
    scenario = Scenario.create(fields)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    assert Scenario.create(json.loads(json.dumps(scenario.to_dict(), allow_nan=False))) == scenario
    assert pickle.loads(pickle.dumps(scenario)) == scenario
    assert scenario.replace() == scenario


@settings(max_examples=100, deadline=None)
@given(scenario_fields())
def test_batches_are_the_same_after_yaml(fields: dict[str, Any]) -> None:
    scenario = Scenario.create(fields)
    again = Scenario.from_yaml(scenario.to_yaml())
    assert again.batches == scenario.batches
    assert scenario.batches.ranks == scenario.ranks


def test_a_few_lines_of_yaml_are_enough(tmp_path: Path) -> None:
    text = """
model: {preset: deepseek-r1, layers: 60, expert_dtype: nvfp4}
group: {ranks: 4}
strategy: {name: dwdp, slice_bytes: 2MiB, prefetch_distance: none}
workload: {kind: cv, cv: 0.2}
hardware: gb200
link_gbps: .inf
"""
    file = tmp_path / "scenario.yaml"
    file.write_text(text, encoding="utf-8")
    scenario = Scenario.from_yaml(file)
    assert scenario == Scenario.from_yaml(text)
    assert scenario.model.layers == 60
    assert scenario.strategy.slice_bytes == 2 * 2**20
    assert scenario.strategy.prefetch_distance is None
    assert scenario.link_gbps == math.inf
    assert scenario.local_experts == 64


@pytest.mark.parametrize(
    ("written", "bytes_"),
    [
        ("2MiB", 2 << 20),
        ("64KiB", 65536),
        ("1 MB", 10**6),
        ("1.5kib", 1536),
        ("4096", 4096),
        (4096, 4096),
        ("None", None),
    ],
)
def test_sizes_take_units(written: object, bytes_: int | None) -> None:
    assert Scenario.create(strategy={"slice_bytes": written}).strategy.slice_bytes == bytes_


def test_replace_changes_dotted_fields_and_checks_again() -> None:
    scenario = Scenario.create()
    changed = scenario.replace(**{"model.layers": 60, "strategy.slots": 3, "workload.cv": 0.4})
    assert (changed.model.layers, changed.strategy.slots, changed.workload.cv) == (60, 3, 0.4)  # type: ignore[union-attr]
    assert changed.model.hidden == scenario.model.hidden
    with pytest.raises(ScenarioError, match=r"^strategy\.slots = 4: must be a whole number from 1 to 3$"):
        scenario.replace(**{"strategy.slots": 4})


def test_a_field_of_a_model_given_by_name_becomes_a_change() -> None:
    fields: dict[str, Any] = {"model": "tiny"}
    set_field(fields, "model.attention.heads", 8)
    assert fields == {"model": {"config": "tiny", "attention": {"heads": 8}}}
    assert Scenario.create(fields).model.attention.heads == 8


def test_another_strategy_shares_the_batches() -> None:
    scenario = Scenario.create()
    batches = scenario.batches
    assert scenario.with_strategy("dep").batches is batches
    assert scenario.with_strategy("dwdp") is scenario


def test_field_paths_name_fields_that_set_field_can_set() -> None:
    paths = list(field_paths(Scenario))
    assert {"strategy.slots", "group.ranks", "model.layers", "workload", "link_gbps"} <= set(paths)
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(("text", "held"), [("", "None"), ("- a\n", r"\['a'\]"), ("tiny\n", "'tiny'")])
def test_a_file_that_holds_no_fields_is_named(text: str, held: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ScenarioError, match=rf"scenario = '.*mine\.yaml': needs a mapping .* what it holds is {held}$"):
        read_yaml(file)


def test_a_file_that_is_not_there_is_no_fault_of_yaml(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.yaml': cannot be read: No such file or directory$"):
        read_yaml(tmp_path / "nowhere.yaml")
