"""Presets against what their makers publish, and every way to name a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.scenario import (
    GroupedQueryAttention,
    LatentAttention,
    Scenario,
    ScenarioError,
    read_model,
)
from dwdp_lab.scenario.shipped import shipped

PRESETS = shipped("models", ".json")


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("qwen3-30b-a3b", 30.5),
        ("mixtral-8x7b", 46.7),
        ("olmoe-1b-7b", 6.9),
        ("gpt-oss-120b", 116.8),
        ("deepseek-r1", 671),
        ("deepseek-r1-nvfp4", 671),
    ],
)
def test_presets_have_the_published_number_of_parameters(name: str, billions: float) -> None:
    assert read_model(name).params / 1e9 == pytest.approx(billions, rel=0.003)


def test_expert_sizes_are_the_published_ones() -> None:
    qwen = read_model("qwen3-30b-a3b")
    assert (qwen.experts, qwen.top_k, qwen.expert_params) == (128, 8, 3 * 2048 * 768)
    assert qwen.expert_bytes == 2 * qwen.expert_params
    r1 = read_model("deepseek-r1-nvfp4")
    # the paper's 4.756 GB: what one of four ranks pulls per layer
    assert r1.expert_params == 44_040_192
    assert r1.expert_bytes == 24_772_608
    assert 192 * r1.expert_bytes / 1e9 == pytest.approx(4.756, abs=5e-4)
    assert r1.attention.projection_params(r1.hidden) / 1e6 == pytest.approx(187, abs=0.2)
    assert (r1.layers, r1.moe_layers, r1.shared_experts) == (61, 58, 1)


def test_precisions_come_from_the_quantisation() -> None:
    assert read_model("deepseek-r1").expert_dtype == "fp8"
    assert read_model("gpt-oss-120b").expert_dtype == "mxfp4"
    assert read_model("gpt-oss-120b").dtype == "bf16"
    # 0.5 bytes and an eighth of a bit exponent each: 4.25 bits
    assert read_model("gpt-oss-120b").expert_bytes * 8 / read_model("gpt-oss-120b").expert_params == 4.25
    assert read_model("mixtral-8x7b").expert_dtype == "bf16"
    by_hand = {"preset": "deepseek-r1", "expert_dtype": "nvfp4", "dense_dtype": "nvfp4"}
    assert read_model({**by_hand, "name": "deepseek-r1-nvfp4"}) == read_model("deepseek-r1-nvfp4")
    assert [read_model(name).dense_dtype for name in ("deepseek-r1", "gpt-oss-120b", "tiny")] == [None, None, None]


def test_attention_of_each_family() -> None:
    assert isinstance(read_model("deepseek-r1").attention, LatentAttention)
    assert read_model("gpt-oss-120b").attention.window == 128
    assert read_model("qwen3-30b-a3b").attention == GroupedQueryAttention(heads=32, kv_heads=4, head_dim=128)
    assert not read_model("olmoe-1b-7b").normalise_top_k
    assert read_model("mixtral-8x7b").normalise_top_k


def test_tiny_is_small_and_aligned() -> None:
    tiny = read_model("tiny")
    assert tiny.expert_bytes % 64 == 0
    assert tiny.params < 1_000_000
    assert tiny.dtype == tiny.expert_dtype == "fp32"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_say_where_their_numbers_come_from(name: str) -> None:
    config = json.loads(PRESETS[name].read_text(encoding="utf-8"))
    assert len(config["_source"]) > 40
    assert read_model(name).name == name


@pytest.mark.parametrize("name", PRESETS)
def test_every_way_to_name_a_model_gives_the_same_shape(name: str, tmp_path: Path) -> None:
    model = read_model(name)
    config = json.loads(PRESETS[name].read_text(encoding="utf-8"))
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    named = {**config, "_name_or_path": f"someone/{name}"}
    for given in (
        str(PRESETS[name]),
        PRESETS[name],
        str(folder),
        str(folder / "config.json"),
        named,
        {"preset": name},
        {"config": str(folder)},
        {"config": name},
        {"config": named},
        model,
        model.model_dump(),
    ):
        assert read_model(given) == model


def test_changes_reach_nested_fields() -> None:
    model = read_model({"preset": "deepseek-r1", "layers": 60, "attention": {"heads": 64}})
    base = read_model("deepseek-r1")
    assert isinstance(model.attention, LatentAttention)
    assert isinstance(base.attention, LatentAttention)
    assert model == base.model_copy(update={"layers": 60, "attention": base.attention.model_copy(update={"heads": 64})})


def test_attention_of_another_kind_replaces_the_whole() -> None:
    other = {"kind": "gqa", "heads": 8, "kv_heads": 2, "head_dim": 64}
    assert read_model({"preset": "deepseek-r1", "attention": other}).attention == GroupedQueryAttention(
        heads=8, kv_heads=2, head_dim=64
    )


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"preset": "tiny", "config": "tiny"}, "model", "not both"),
        ({"preset": 3}, "model.preset", "presets are deepseek-r1"),
        ({"config": 3}, "model.config", "give a preset"),
        ("no/such/config.json", "model", "no such preset or file"),
        (None, "model", "give a preset"),
        ([], "model", "give a preset"),
    ],
)
def test_what_names_no_model_is_refused(given: Any, field: str, says: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.create(model=given)
    assert caught.value.field == field
    assert says in caught.value.allowed


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_file_that_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as caught:
        read_model(tmp_path)
    assert caught.value.field == "model"
