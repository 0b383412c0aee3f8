"""A Hugging Face config, of any mixture-of-experts family we can represent, as ModelShape fields.

Families differ in names more than in substance, so the reading goes by field and not by family: a new family
works as soon as it uses names that one of the known ones uses. What a ModelShape cannot say (linear attention, ...) is
refused: a wrong number would be worse than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dwdp_lab.scenario.errors import MISSING, ScenarioError
from dwdp_lab.scenario.hf_precision import activation_dtype, dense_dtype, expert_dtype

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_K = ("num_experts_per_tok", "experts_per_token", "num_experts_per_token", "moe_topk", "moe_k")
_EXPERT_WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size", "intermediate_size")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts")
_SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size")
"""Qwen2-MoE and Granite: one shared expert, as wide as several."""

_ONE_SHARED = ("llama4", "llama4_text")
"""Families whose code has one shared expert in every MoE layer, though no field of their configs says so."""

_OTHER_ATTENTION = {
    "attention_chunk_size": "attention within chunks of so many tokens",
    "attn_layer_period": "state-space layers between those with attention",
    "attn_type_list": "linear attention in some layers",
    "full_attention_interval": "linear attention in the layers between",
    "hybrid_override_pattern": "state-space layers between those with attention",
    "index_topk": "attention to the chosen tokens alone",
    "linear_attn_config": "linear attention in some layers",
}
"""Fields of layers that do not attend to everything before them, and what they mean."""

_MOE_EVERYWHERE: dict[str, Any] = {
    "first_k_dense_replace": 0,
    "moe_layer_start_index": 0,
    "moe_layer_freq": 1,
    "mlp_only_layers": [],
    "decoder_sparse_step": 1,
    "interleave_moe_layer_step": 1,
    "moe_layer_interval": 1,
    "mlp_layer_types": [],
}
"""Fields that decide which layers have experts, and the value with which all have some."""

_EPS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon")


def shape_fields(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """ModelShape fields from the contents of a config.json.

    Raises ScenarioError naming the config's own field, when it is missing or says what no ModelShape can.
    """
    inner = config.get("text_config")  # multimodal models keep their decoder there
    if isinstance(inner, Mapping):
        config = {**config, **inner}
    if not any(config.get(field) for field in _EXPERTS):
        raise ScenarioError(
            "model",
            name,
            f"is not a mixture of experts: its config has none of {', '.join(_EXPERTS)}",
            "DWDP splits experts over ranks, so it needs a model that has some",
        )
    layers = _whole(config, ("num_hidden_layers",))
    hidden = _whole(config, ("hidden_size",))
    width = _whole(config, _EXPERT_WIDTH)
    dense_layers, more_dense_layers = _dense_layers(config, layers)
    dtype = activation_dtype(config)
    quantised = expert_dtype(config, dtype)
    return {
        "name": name,
        "layers": layers,
        "hidden": hidden,
        "attention": _attention(config, hidden, layers),
        "experts": _whole(config, _EXPERTS),
        "top_k": _whole(config, _TOP_K),
        "expert_intermediate": width,
        "shared_experts": _shared_experts(config, width),
        "dense_layers": dense_layers,
        "more_dense_layers": more_dense_layers,
        "dense_intermediate": _whole(config, ("intermediate_size",)) if dense_layers or more_dense_layers else 0,
        "vocab": _whole(config, ("vocab_size",)),
        # Mixtral and gpt-oss have no such field: their softmax is over the chosen experts only
        "normalise_top_k": bool(config.get("norm_topk_prob", True)),
        "rms_eps": _first(config, _EPS, 1e-6),
        "rope_theta": _rope_theta(config),
        "dtype": dtype,
        "expert_dtype": quantised,
        "dense_dtype": dense_dtype(config, quantised),
    }


def _first(config: Mapping[str, Any], names: tuple[str, ...], default: Any = None) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), default)


def _whole(config: Mapping[str, Any], names: tuple[str, ...]) -> int:
    """The first of these fields that is there; it must be a whole number from 1 up."""
    name = next((name for name in names if config.get(name) is not None), None)
    if name is None:
        raise ScenarioError(
            f"model.{names[0]}",
            MISSING,
            f"is missing: the config needs {' or '.join(names)}",
            "add it to the config",
        )
    value = config[name]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ScenarioError(f"model.{name}", value, "must be a whole number from 1 up")
    return value


def _attention(config: Mapping[str, Any], hidden: int, layers: int) -> dict[str, Any]:
    if _count(config, "attn_layer_period", least=1) > 1:
        raise ScenarioError(
            "model.attn_layer_period",
            config["attn_layer_period"],
            "leaves layers without attention (Jamba's have a state space instead), and no shape can say so",
        )
    heads = _whole(config, ("num_attention_heads",))
    _only_full_attention(config)
    if config.get("kv_lora_rank") is not None:
        rank_and_dims = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        return {
            "kind": "mla",
            "heads": heads,
            "q_lora_rank": _count(config, "q_lora_rank") or None,  # DeepSeek-V2-Lite compresses keys and values alone
            **{field: _whole(config, (field,)) for field in rank_and_dims},
        }
    return {
        "kind": "gqa",
        "heads": heads,
        "kv_heads": _count(config, "num_key_value_heads") or heads,
        "head_dim": _count(config, "head_dim") or hidden // heads,
        "window": _window(config, layers),
    }


def _only_full_attention(config: Mapping[str, Any]) -> None:
    """Refuses attention that costs less than the full one, by fields that stand beside or instead of layer_types."""
    for name, meaning in _OTHER_ATTENTION.items():
        value = config.get(name)
        if value in (None, 1) or (isinstance(value, list) and all(kind == 1 for kind in value)):
            continue
        raise ScenarioError(
            f"model.{name}",
            value,
            f"means {meaning}; only full attention, or a window in every other layer, is modelled",
            f"set {name} to null to count full attention in every layer, an upper bound of its time",
        )


def _window(config: Mapping[str, Any], layers: int) -> int | None:
    """The sliding window, for models whose layers 0, 2, 4, ... have one and whose others see everything."""
    types = _list(config, "layer_types")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if not types:
        if window is None:
            return None
        raise ScenarioError(
            "model.sliding_window",
            window,
            "needs layer_types beside it that give every other layer a window",
            "set sliding_window to null to count full attention in every layer",
        )
    if types == ["full_attention"] * layers:
        return None
    every_other = [("sliding_attention", "full_attention")[layer % 2] for layer in range(layers)]
    if types != every_other:
        raise ScenarioError(
            "model.layer_types",
            ", ".join(sorted(set(map(str, types)))),
            f"must be full_attention in all {layers} layers, or sliding_attention and full_attention in turn",
            "remove layer_types and sliding_window to count full attention in every layer",
        )
    return _whole(config, ("sliding_window",))


def _dense_layers(config: Mapping[str, Any], layers: int) -> tuple[int, tuple[int, ...]]:
    """How many leading layers have no experts, and which others."""
    if _count(config, "interleave_moe_layer_step", least=1) > 1:
        raise ScenarioError(
            "model.interleave_moe_layer_step",
            config["interleave_moe_layer_step"],
            "is Llama 4's, whose config does not tell the shared expert beside the others",
            "give the model's fields, with more_dense_layers and shared_experts, to study it all the same",
        )
    moe = [_has_experts(config, layer, layers) for layer in range(layers)]
    if True not in moe:
        names = [name for name, every in _MOE_EVERYWHERE.items() if config.get(name, every) not in (every, None)]
        name = names[0] if names else "num_hidden_layers"
        raise ScenarioError(
            f"model.{name}",
            config[name],
            f"leaves none of {layers} layers with experts",
            "DWDP splits experts over ranks, so it needs a model that has some",
        )
    leading = moe.index(True)
    return leading, tuple(layer for layer in range(leading, layers) if not moe[layer])


def _has_experts(config: Mapping[str, Any], layer: int, layers: int) -> bool:
    if types := _list(config, "mlp_layer_types"):  # newer families name each layer's MLP, whatever else there is
        if len(types) != layers or not all(word in ("dense", "sparse") for word in types):
            raise ScenarioError("model.mlp_layer_types", types, f"must be dense or sparse for each of {layers} layers")
        return bool(types[layer] != "dense")
    frequency = config.get("moe_layer_freq")  # DeepSeek: a number; MiniMax and others: a 0/1 for each layer
    if isinstance(frequency, list):
        if layer >= len(frequency) or not frequency[layer]:
            return False
    elif layer % _count(config, "moe_layer_freq", least=1):
        return False
    # Qwen and Ernie count from the last layer of each stretch
    for name in ("decoder_sparse_step", "moe_layer_interval"):
        if (layer + 1) % _count(config, name, least=1):
            return False
    first = max(_count(config, "first_k_dense_replace"), _count(config, "moe_layer_start_index"))
    return layer >= first and layer not in _list(config, "mlp_only_layers")


def _count(config: Mapping[str, Any], name: str, least: int = 0) -> int:
    """A whole number that is `least` where the config is silent."""
    value = config.get(name)
    if value is None:
        return least
    if not isinstance(value, int) or value < least:
        raise ScenarioError(f"model.{name}", value, f"must be a whole number from {least} up")
    return int(value)


def _list(config: Mapping[str, Any], name: str) -> list[Any]:
    value = config.get(name)
    if value is not None and not isinstance(value, list):
        raise ScenarioError(f"model.{name}", value, "must be a list")
    return value or []


def _shared_experts(config: Mapping[str, Any], width: int) -> int:
    """Shared experts, in units of a routed expert's width."""
    name = next((name for name in _SHARED_WIDTH if config.get(name)), _SHARED_WIDTH[0])
    wide = _count(config, name)
    if wide % width:
        raise ScenarioError(
            f"model.{name}",
            wide,
            f"must be a multiple of the experts' width ({width})",
            "give the model's fields, with shared_experts, to study it all the same",
        )
    if config.get("model_type") in _ONE_SHARED:
        return 1
    return wide // width or next(filter(None, (_count(config, name) for name in _SHARED)), 0)


def _rope_theta(config: Mapping[str, Any]) -> Any:
    parameters = config.get("rope_parameters")  # transformers 5 moved it there
    moved = parameters.get("rope_theta") if isinstance(parameters, Mapping) else None
    return _first(config, ("rope_theta",), moved or 10000.0)
