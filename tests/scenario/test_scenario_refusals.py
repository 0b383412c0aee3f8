"""Bad input gets one error: field, value, what is allowed, and the nearest name."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios import scenario_fields

from dwdp_lab.scenario import Group, Scenario, ScenarioError, read_model
from dwdp_lab.scenario.errors import MISSING
from dwdp_lab.scenario.scenario import set_field
from dwdp_lab.scenario.shipped import shipped


def refused(fields: dict[str, Any]) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        Scenario.create(fields)
    return caught.value


@pytest.mark.parametrize(
    ("fields", "field", "value", "allowed"),
    [
        ({"strategy": {"slots": 9}}, "strategy.slots", 9, "a whole number from 1 to 3"),
        ({"strategy": {"slots": "many"}}, "strategy.slots", "many", "a whole number from 1 to 3"),
        ({"strategy": {"overlap": "perhaps"}}, "strategy.overlap", "perhaps", "true or false"),
        (
            {"strategy": {"name": "tp"}},
            "strategy.name",
            "tp",
            "one of replicated, dep, weight_gather, dwdp, tensor, pipeline",
        ),
        (
            {"strategy": {"slice_bytes": "2 bananas"}},
            "strategy.slice_bytes",
            "2 bananas",
            "64KiB or 2MiB, or none",
        ),
        ({"strategy": {"slice_bytes": "10B"}}, "strategy.slice_bytes", "10B", "from 1KiB up"),
        (
            {"strategy": {"prefetch_distance": 3}},
            "strategy.prefetch_distance",
            3,
            "at most strategy.slots (2)",
        ),
        ({"strategy": "dwdp"}, "strategy", "dwdp", "a mapping of the fields name, overlap, slots"),
        ({"group": {"ranks": 0}}, "group.ranks", 0, "a whole number from 1 to 256"),
        ({"group": {"ranks": None}}, "group.ranks", None, "a whole number from 1 to 256"),
        ({"group": {"ranks": 2.5}}, "group.ranks", 2.5, "a whole number"),
        ({"group": {"local_experts": 3}}, "group.local_experts", 3, "allowed are 4 to 8"),
        ({"group": {"local_experts": 9}}, "group.local_experts", 9, "allowed are 4 to 8"),
        ({"group": {"local_experts": -1}}, "group.local_experts", -1, "a whole number from 1 up, or none"),
        ({"workload": 3}, "workload", 3, "one of explicit, isl, cv, trace"),
        ({"workload": {"kind": "cvv"}}, "workload.kind", "cvv", "one of explicit, isl, cv, trace"),
        (
            {"workload": {"lengths": [[1]]}},
            "workload.lengths",
            [[1]],
            "the fields of workload of kind cv are",
        ),
        ({"workload": {"kind": "cv", "cv": 0.9}}, "workload.cv", 0.9, "from 0 to 0.55 (with more the lightest"),
        ({"workload": {"kind": "cv", "seed": -1}}, "workload.seed", -1, "a whole number from 0 up"),
        (
            {"workload": {"kind": "isl", "prefix_hit": 1}},
            "workload.prefix_hit",
            1,
            "a number from 0 to below 1",
        ),
        (
            {"workload": {"kind": "isl", "isl_std_tokens": math.inf}},
            "workload.isl_std_tokens",
            math.inf,
            "finite",
        ),
        ({"workload": {"kind": "explicit"}}, "workload.lengths", MISSING, "is missing"),
        (
            {"workload": {"kind": "explicit", "lengths": [[1, 0], [1]]}},
            "workload.lengths.0.1",
            0,
            "from 1 to",
        ),
        ({"workload": {"kind": "explicit", "lengths": [3, 4]}}, "workload.lengths.0", 3, "a list"),
        ({"workload": {"kind": "explicit", "lengths": [[1]]}}, "workload.lengths", [[1]], "per rank, so 2"),
        ({"link_gbps": 0}, "link_gbps", 0, "a number from 1e-06 up, or none"),
        ({"link_gbps": "fast"}, "link_gbps", "fast", "a number from 1e-06 up, or none"),
        ({"model": {"preset": "tiny", "top_k": 30}}, "model.top_k", 30, "at most experts (8)"),
        ({"model": {"preset": "tiny", "layers": 0}}, "model.layers", 0, "a whole number from 1 to 1024"),
        ({"model": {"preset": "tiny", "dtype": "int3"}}, "model.dtype", "int3", "one of fp32, bf16"),
        ({"model": {"preset": "tiny", "dense_layers": 4}}, "model.dense_layers", 4, "less than layers (4)"),
        ({"model": {"preset": "tiny", "dense_layers": 1}}, "model.dense_intermediate", 0, "from 1 up"),
        (
            {"model": {"preset": "tiny", "more_dense_layers": 3}},
            "model.more_dense_layers",
            3,
            "must be a list of [a whole number from 0 up]",
        ),
        (
            {"model": {"preset": "tiny", "more_dense_layers": [2, "x"]}},
            "model.more_dense_layers.1",
            "x",
            "must be a whole number from 0 up",
        ),
        (
            {"model": {"preset": "tiny", "more_dense_layers": [2]}},
            "model.dense_intermediate",
            0,
            "for the 1 dense layers",
        ),
        (
            {"model": {"preset": "tiny", "dense_layers": 1, "more_dense_layers": [1, 3, 2]}},
            "model.more_dense_layers",
            [1, 3, 2],
            "leaves none of 4 layers with experts",
        ),
        (
            {"model": {"preset": "tiny", "attention": {"heads": 3}}},
            "model.attention.heads",
            3,
            "multiple of kv_heads",
        ),
        (
            {"model": {"preset": "tiny", "attention": {"kind": "x"}}},
            "model.attention.kind",
            "x",
            "one of gqa, mla",
        ),
        (
            {"model": {"preset": "tiny", "attention": {"kind": "mla"}}},
            "model.attention.heads",
            MISSING,
            "is missing",
        ),
        ({"model": {"attention": {}}}, "model.attention.kind", MISSING, "one of gqa, mla"),
        ({"model": {"layers": 3}}, "model.hidden", MISSING, "a whole number from 1 up"),
        ({"model": 3}, "model", 3, "give a preset"),
    ],
)
def test_each_bad_field_is_named(fields: dict[str, Any], field: str, value: object, allowed: str) -> None:
    error = refused(fields)
    assert error.field == field
    assert error.value == value
    assert allowed in error.allowed
    assert str(error).startswith(field)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("fields", "field", "meant"),
    [
        ({"stratgy": {}}, "stratgy", "strategy"),
        ({"strategy": {"slot": 2}}, "strategy.slot", "slots"),
        ({"group": {"rank": 2}}, "group.rank", "ranks"),
        ({"workload": {"kind": "cv", "token_per_rank": 2}}, "workload.token_per_rank", "tokens_per_rank"),
        ({"workload": {"kind": "explicit", "lenghts": [[1], [1]]}}, "workload.lenghts", "lengths"),
        ({"workload": {"kind": "trac"}}, "workload.kind", "trace"),
        ({"workload": {"kind": "trace", "file": "azure-2023-con-64"}}, "workload.file", "azure-2023-conv-64"),
        ({"model": {"preset": "tiny", "lajers": 3}}, "model.lajers", "layers"),
        ({"model": {"preset": "tiny", "attention": {"head": 4}}}, "model.attention.head", "heads"),
        ({"model": {"preset": "qwen3-30b"}}, "model.preset", "qwen3-30b-a3b"),
        ({"model": "deepseek"}, "model", "deepseek-r1"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(fields: dict[str, Any], field: str, meant: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        _ = Scenario.create(fields).batches
    assert caught.value.field == field
    assert caught.value.hint == f"did you mean {meant!r}?"
    assert f"Did you mean {meant!r}?" in str(caught.value)


def test_an_unknown_field_lists_the_known_ones() -> None:
    error = refused({"group": {"size": 2}})
    assert error.allowed == "no such field; the fields of group are ranks, local_experts"


@settings(max_examples=150, deadline=None)
@given(scenario_fields(), st.sampled_from(("group", "strategy", "workload")), st.text(min_size=1, max_size=12))
def test_no_unknown_field_is_ever_taken(fields: dict[str, Any], room: str, name: str) -> None:
    known = Scenario.create(fields).to_dict()[room]
    if name in known:
        return
    error = refused({**fields, room: {**fields[room], name: 1}})
    assert error.field == f"{room}.{name}"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PATHS = [
    "model",
    "model.layers",
    "model.attention",
    "model.attention.heads",
    "group",
    "group.ranks",
    "strategy",
    "strategy.slice_bytes",
    "strategy.name",
    "workload",
    "workload.kind",
    "workload.cv",
    "link_gbps",
    "hardware",
]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(PATHS), junk)
def test_junk_gives_a_scenario_or_a_scenario_error_at_its_place(path: str, value: Any) -> None:
    places = []
    try:
        Scenario.create().replace(**{path: value})
    except ScenarioError as error:
        places.append(error.field.split(".")[0])
    # a change of the model's experts may leave no room for the group's local experts
    assert set(places) <= {path.split(".")[0], "group"}


@pytest.mark.parametrize("text", ["[1, 2]", "tiny", "a: [", ""])
def test_yaml_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_yaml(text)
    assert caught.value.field == "scenario"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.yaml"):
        Scenario.from_yaml(tmp_path / "none.yaml")


def test_errors_cross_processes() -> None:
    error = refused({"strategy": {"slots": 9}})
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.field, again.value) == (str(error), "strategy.slots", 9)


def test_long_values_do_not_fill_the_screen() -> None:
    assert len(str(refused({"group": {"ranks": "9" * 5000}}))) < 300


def test_a_field_below_something_that_has_no_fields_is_refused() -> None:
    """Not dropped: `strategy: dep` in a file would otherwise run the default strategy."""
    fields: dict[str, Any] = {"strategy": "dep"}
    with pytest.raises(ScenarioError, match=r"^strategy = 'dep': .*strategy\.slots") as caught:
        set_field(fields, "strategy.slots", 3)
    assert caught.value.field == "strategy"


def test_fields_of_a_model_given_by_file_or_config_can_be_changed(tmp_path: Path) -> None:
    config = json.loads(shipped("models", ".json")["olmoe-1b-7b"].read_text())
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    for model in ("olmoe-1b-7b", str(file), config):
        fields: dict[str, Any] = {"model": model}
        set_field(fields, "model.layers", 2)
        assert Scenario.create(fields).model.layers == 2


def test_an_unknown_strategy_is_refused_wherever_it_is_named() -> None:
    with pytest.raises(ScenarioError, match=r"strategy\.name = 'dwpd': .*Did you mean 'dwdp'"):
        Scenario.create().with_strategy("dwpd")  # type: ignore[arg-type]


def test_experts_without_an_owner_are_refused_however_the_scenario_is_made() -> None:
    with pytest.raises(ValueError, match=r"group\.local_experts = 3: allowed are 4 to 8"):
        Scenario(model=read_model("tiny"), group=Group(ranks=2, local_experts=3))


@pytest.mark.parametrize("name", ["x" * 5000, "~nobody-of-this-name/config.json"])
def test_names_no_file_can_have_are_refused(name: str) -> None:
    assert refused({"model": name}).field == "model"
    with pytest.raises(ScenarioError, match=r"^workload\.file"):
        _ = Scenario.create(workload={"kind": "trace", "file": name}).batches


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"slots": 3}, "did you mean 'strategy.slots'?"),
        ({"tokens_per_rank": 4096}, "did you mean 'workload.tokens_per_rank'?"),
        ({"workload": {"kind": "isl", "tokens_per_rank": 4096}}, ""),
        ({"hardwear": "h100"}, "did you mean 'hardware'?"),
    ],
)
def test_a_field_that_lies_deeper_is_named_with_its_path(fields: dict[str, Any], hint: str) -> None:
    assert refused(fields).hint == hint


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Qwen/Qwen3-235B-A22B", "`hf download Qwen/Qwen3-235B-A22B config.json --local-dir .`"),
        ("olmoe-1b", "did you mean 'olmoe-1b-7b'?"),
        ("models/config.json", ""),
    ],
)
def test_a_repository_of_the_hub_is_told_how_to_come_here(name: str, hint: str) -> None:
    assert hint in refused({"model": name}).hint
    assert ("hf download" in refused({"model": name}).hint) == hint.startswith("`hf")
