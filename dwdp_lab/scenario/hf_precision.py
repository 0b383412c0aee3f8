"""Number formats in a Hugging Face config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.precision import Precision

_DTYPES: dict[str, Precision] = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}


def activation_dtype(config: Mapping[str, Any]) -> Precision:
    """`dtype`, called `torch_dtype` before transformers 5; bf16 where the config is silent."""
    given = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16").removeprefix("torch.")
    if given not in _DTYPES:
        raise ScenarioError("model.dtype", given, f"must be one of {', '.join(_DTYPES)}")
    return _DTYPES[given]


def expert_dtype(config: Mapping[str, Any], dtype: Precision) -> Precision:
    """What the experts are kept in: `quantization_config` where there is one, else `dtype`.

    Methods name formats in many ways: `fp8` (DeepSeek), `mxfp4` (gpt-oss), `modelopt` with quant_algo NVFP4,
    `compressed-tensors` with format nvfp4-pack-quantized.
    """
    quantised = config.get("quantization_config")
    if not isinstance(quantised, Mapping):
        return dtype
    said = " ".join(
        str(quantised[name]).lower() for name in ("quant_algo", "format", "quant_method") if quantised.get(name)
    )
    for precision in ("nvfp4", "mxfp4", "fp8"):
        if precision in said:
            return precision
    if "float-quantized" in said:
        return "fp8"
    raise ScenarioError(
        "model.quantization_config",
        said,
        "must name one of the formats nvfp4, mxfp4, fp8",
        "to study the model all the same, remove quantization_config from a copy of the config and set "
        "model.expert_dtype to a format of as many bits (mxfp4 for 4)",
    )


def dense_dtype(config: Mapping[str, Any], quantised: Precision) -> Precision | None:
    """What attention's projections and dense MLPs are kept in: `quantised`, or None for as the activations.

    They are quantised with the experts where `quantization_config` lists what is not, and attention is not listed.
    Without a list, as in DeepSeek's own config, only the experts are taken to be.
    """
    given = config.get("quantization_config")
    if not isinstance(given, Mapping):
        return None
    lists = [given[name] for name in ("ignore", "modules_to_not_convert", "exclude_modules") if given.get(name)]
    kept = [str(module) for modules in lists for module in modules]
    return quantised if kept and not any("attn" in module or "attention" in module for module in kept) else None
