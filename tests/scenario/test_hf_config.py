"""Hugging Face configs: the names of many families, and what cannot be represented."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.scenario import ScenarioError, read_model

BASE: dict[str, Any] = {
    "model_type": "anything",
    "num_hidden_layers": 6,
    "hidden_size": 256,
    "num_attention_heads": 8,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 128,
    "intermediate_size": 1024,
    "vocab_size": 1000,
}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in BASE.items() if name not in names}


def test_silent_fields_take_the_families_defaults() -> None:
    model = read_model(BASE)
    assert model.name == "anything"
    assert (model.attention.heads, model.attention.kv_heads, model.attention.head_dim) == (8, 8, 32)  # type: ignore[union-attr]
    assert (model.shared_experts, model.dense_layers, model.dense_intermediate) == (0, 0, 0)
    assert (model.dtype, model.expert_dtype, model.rope_theta) == ("bf16", "bf16", 10000.0)


@pytest.mark.parametrize("name", ["num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"])
def test_experts_go_by_many_names(name: str) -> None:
    assert read_model({**without("num_experts"), name: 16}).experts == 16


@pytest.mark.parametrize("name", ["num_experts_per_tok", "experts_per_token", "moe_topk", "moe_k"])
def test_top_k_goes_by_many_names(name: str) -> None:
    assert read_model({**without("num_experts_per_tok"), name: 3}).top_k == 3


def test_the_experts_width_is_the_only_width_when_there_is_one() -> None:
    assert read_model(without("moe_intermediate_size")).expert_intermediate == 1024


@pytest.mark.parametrize(
    ("given", "shared"),
    [
        ({"n_shared_experts": 2}, 2),
        ({"n_shared_experts": None}, 0),
        ({"num_shared_experts": 1}, 1),
        ({"shared_expert_intermediate_size": 512}, 4),
        ({"shared_intermediate_size": 256}, 2),
        ({"shared_intermediate_size": 0}, 0),
        ({"model_type": "llama4_text"}, 1),
    ],
)
def test_shared_experts(given: dict[str, Any], shared: int) -> None:
    assert read_model({**BASE, **given}).shared_experts == shared


@pytest.mark.parametrize(
    ("given", "dense"),
    [
        ({"first_k_dense_replace": 2}, 2),
        ({"first_k_dense_replace": 0, "moe_layer_freq": 1}, 0),
        ({"moe_layer_freq": [0, 1, 1, 1, 1, 1]}, 1),
        ({"mlp_only_layers": [0, 1, 2]}, 3),
        ({"mlp_only_layers": [1, 0]}, 2),
        ({"moe_layer_start_index": 1}, 1),
        ({"decoder_sparse_step": 1, "mlp_only_layers": None}, 0),
    ],
)
def test_leading_dense_layers(given: dict[str, Any], dense: int) -> None:
    model = read_model({**BASE, **given})
    assert model.dense_layers == dense
    assert model.dense_intermediate == (1024 if dense else 0)


@pytest.mark.parametrize(
    ("given", "with_experts"),
    [
        ({"decoder_sparse_step": 2}, [1, 3, 5]),
        ({"num_hidden_layers": 5, "decoder_sparse_step": 2}, [1, 3]),
        ({"decoder_sparse_step": 3, "mlp_only_layers": [2]}, [5]),
        ({"mlp_only_layers": [3, 5]}, [0, 1, 2, 4]),
        ({"moe_layer_freq": 2}, [0, 2, 4]),
        ({"moe_layer_freq": 2, "first_k_dense_replace": 1}, [2, 4]),
        ({"moe_layer_freq": [0, 1, 1, 0, 1, 1]}, [1, 2, 4, 5]),
        ({"moe_layer_interval": 2, "moe_layer_start_index": 2}, [3, 5]),
        ({"mlp_layer_types": ["dense", "sparse", "sparse"] * 2}, [1, 2, 4, 5]),
        # transformers writes both where it made the one of the other
        ({"mlp_layer_types": ["dense"] + ["sparse"] * 5, "first_k_dense_replace": 1}, [1, 2, 3, 4, 5]),
    ],
)
def test_layers_without_experts_anywhere(given: dict[str, Any], with_experts: list[int]) -> None:
    model = read_model({**BASE, **given})
    assert list(model.layers_with_experts) == with_experts
    assert model.dense_layers == with_experts[0]
    assert model.dense_intermediate == 1024


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "fp8"),
    ],
)
def test_quantised_experts(given: dict[str, Any], precision: str) -> None:
    model = read_model({**BASE, "quantization_config": given})
    assert (model.expert_dtype, model.dtype) == (precision, "bf16")


@pytest.mark.parametrize(
    ("listed", "dense"),
    [
        ({}, None),
        ({"ignore": []}, None),
        ({"ignore": ["lm_head", "*.mlp.gate"]}, "nvfp4"),
        ({"modules_to_not_convert": ["lm_head", "model.layers.0.self_attn.q_proj"]}, None),
        ({"exclude_modules": ["lm_head", "*attention*"]}, None),
    ],
)
def test_dense_layers_are_quantised_unless_they_are_listed(listed: dict[str, Any], dense: str | None) -> None:
    given = {"quant_method": "modelopt", "quant_algo": "NVFP4", **listed}
    assert read_model({**BASE, "quantization_config": given}).dense_dtype == dense


def test_newer_and_older_spellings() -> None:
    assert read_model({**BASE, "torch_dtype": "float32"}).expert_dtype == "fp32"
    assert read_model({**BASE, "dtype": "torch.float16"}).dtype == "fp16"
    assert read_model({**BASE, "rope_parameters": {"rope_theta": 5e5}}).rope_theta == 5e5
    assert read_model({**BASE, "num_key_value_heads": None, "head_dim": None}).attention.heads == 8


def test_a_multimodal_model_keeps_its_decoder_inside() -> None:
    outer = {"model_type": "seeing", "architectures": ["Seeing"], "text_config": BASE, "vision_config": {}}
    assert read_model(outer).experts == 16


def test_windows_in_every_other_layer() -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    assert read_model({**BASE, "sliding_window": 128, "layer_types": kinds}).attention.window == 128
    full = ["full_attention"] * 6
    assert read_model({**BASE, "sliding_window": 128, "layer_types": full}).attention.window is None
    assert read_model({**BASE, "sliding_window": 128, "use_sliding_window": False}).attention.window is None


def test_attention_that_is_full_in_every_layer_is_read_whatever_else_its_family_can() -> None:
    said = {"attention_chunk_size": None, "full_attention_interval": 1, "attn_type_list": [1] * 6, "index_topk": None}
    assert read_model({**BASE, **said}) == read_model(BASE)


def test_latent_attention_may_leave_queries_as_they_are() -> None:
    """DeepSeek-V2-Lite: keys and values are compressed, queries are not."""
    dims = {"kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 16, "v_head_dim": 32}
    direct = read_model({**BASE, **dims, "q_lora_rank": None}).attention.projection_params(256)
    compressed = read_model({**BASE, **dims, "q_lora_rank": 24}).attention.projection_params(256)
    assert direct - compressed == 256 * 8 * 48 - (256 * 24 + 24 * 8 * 48)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"decoder_sparse_step": 7}, "model.decoder_sparse_step"),
        ({"mlp_layer_types": ["dense", "sparse"]}, "model.mlp_layer_types"),
        ({"mlp_layer_types": ["dense"] * 6}, "model.mlp_layer_types"),
        ({"mlp_layer_types": ["sparse", "hashed"] * 3}, "model.mlp_layer_types"),
        ({"decoder_sparse_step": 2, "intermediate_size": None}, "model.intermediate_size"),
        ({"interleave_moe_layer_step": 2}, "model.interleave_moe_layer_step"),
        ({"moe_layer_freq": 0}, "model.moe_layer_freq"),
        ({"mlp_only_layers": 3}, "model.mlp_only_layers"),
        ({"first_k_dense_replace": 6}, "model.first_k_dense_replace"),
        ({"first_k_dense_replace": "two"}, "model.first_k_dense_replace"),
        ({"sliding_window": 4096}, "model.sliding_window"),
        ({"layer_types": ["linear_attention", "full_attention"] * 3}, "model.layer_types"),
        ({"layer_types": ["full_attention"]}, "model.layer_types"),
        ({"attn_layer_period": 8, "expert_layer_period": 2}, "model.attn_layer_period"),
        (
            {"layer_types": ["full_attention", "sliding_attention"] * 3, "sliding_window": 9},
            "model.layer_types",
        ),
        ({"shared_expert_intermediate_size": 100}, "model.shared_expert_intermediate_size"),
        ({"shared_intermediate_size": 100}, "model.shared_intermediate_size"),
        ({"attention_chunk_size": 8192}, "model.attention_chunk_size"),
        ({"attn_layer_period": 8}, "model.attn_layer_period"),
        ({"attn_type_list": [0, 0, 0, 0, 0, 1]}, "model.attn_type_list"),
        ({"full_attention_interval": 4}, "model.full_attention_interval"),
        ({"hybrid_override_pattern": "MEM*EM"}, "model.hybrid_override_pattern"),
        ({"index_topk": 2048}, "model.index_topk"),
        ({"linear_attn_config": {"full_attn_layers": [4]}}, "model.linear_attn_config"),
        ({"quantization_config": {"quant_method": "awq"}}, "model.quantization_config"),
        ({"dtype": "int8"}, "model.dtype"),
        ({"num_experts": "many"}, "model.num_experts"),
        ({"num_experts": 2.5}, "model.num_experts"),
        ({"num_experts_per_tok": 99}, "model.top_k"),
        ({"num_key_value_heads": 3}, "model.attention.heads"),
        ({"kv_lora_rank": 64}, "model.qk_nope_head_dim"),
        ({"kv_lora_rank": 64, "q_lora_rank": "wide"}, "model.q_lora_rank"),
    ],
)
def test_what_no_shape_can_say_is_refused_by_the_configs_own_name(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read_model({**BASE, **given})
    assert caught.value.field == field


@pytest.mark.parametrize(
    "name", ["num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "num_experts_per_tok"]
)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(ScenarioError, match=rf"^model\.{name} is missing: the config needs {name}"):
        read_model(without(name))


def test_a_dense_model_is_refused() -> None:
    with pytest.raises(ScenarioError, match="is not a mixture of experts") as caught:
        read_model({**without("num_experts"), "_name_or_path": "meta/llama"})
    assert (caught.value.field, caught.value.value) == ("model", "llama")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        sorted(
            {*BASE, "layer_types", "mlp_only_layers", "rope_theta", "rms_norm_eps", "head_dim"}
            | {"quantization_config", "dtype", "first_k_dense_replace", "sliding_window"}
        )
    ),
    st.none()
    | st.booleans()
    | st.integers(-2, 9)
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.integers(0, 9), max_size=3)
    | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)
def test_any_config_gives_a_shape_or_a_scenario_error(name: str, value: Any) -> None:
    fields = []
    try:
        assert read_model({**BASE, name: value}).experts >= 1
    except ScenarioError as error:
        fields.append(error.field)
    assert all(field == "model" or field.startswith("model.") for field in fields)


def test_a_config_that_was_cut_down_is_still_known_as_one() -> None:
    with pytest.raises(ScenarioError, match=r"model\.moe_intermediate_size is missing"):
        read_model({"hidden_size": 2048, "num_hidden_layers": 4, "num_experts": 8})
