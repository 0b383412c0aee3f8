"""The modules that transformers keeps an MoE layer's routed experts in, and whether ours can stand in for them.

All families have one form, told by what `use_experts_implementation` (transformers/integrations/moe.py) writes on the
module: two weights of all E experts, three-dimensional, [out, in] or transposed, perhaps with biases, and the module's
own `_apply_gate` between the two products.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from dwdp_lab.scenario.errors import ScenarioError

TYPES = (torch.bfloat16, torch.float16, torch.float32)
_FORM = ("num_experts", "has_gate", "has_bias", "is_transposed", "is_concatenated")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")


def experts_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model that hold routed experts, by name in the order of the layers.

    Raises ScenarioError (field `model`) for a model without any that transformers lets one replace.
    """
    found = {name: module for name, module in model.named_modules() if all(hasattr(module, word) for word in _FORM)}
    if not found:
        raise ScenarioError(
            "model",
            type(model).__name__,
            "has no experts that transformers' experts interface reaches",
            "it is no mixture of experts, or its code does not use @use_experts_implementation (transformers 5)",
        )
    return found


def layer_of(name: str) -> int:
    """The decoder layer of a module or of a checkpoint's tensor. Raises ScenarioError (field `model`) without one."""
    found = _LAYER.search(name)
    if found is None:
        raise ScenarioError("model", name, "is in no decoder layer: a name with layers.NUMBER is needed")
    return int(found[1])


def stack_of(name: str) -> str | None:
    """What comes before the decoder layer in the name of a module or a tensor, as `model.`; None outside of layers."""
    return name[: found.start(1) - len("layers.")] if (found := _LAYER.search(name)) else None


def weight_names(module: nn.Module) -> tuple[str, str]:
    """What the module calls its first and its second weights."""
    return ("gate_up_proj" if module.has_gate else "up_proj"), "down_proj"


def is_swiglu(module: nn.Module) -> bool:
    """Whether the module computes down(silu(gate) * up), gate above up and no biases: what the fused kernel does."""
    if not module.has_gate or module.has_bias or not module.is_concatenated:
        return False
    kind: Any = type(module)
    default = import_module("transformers.integrations.moe")._default_apply_gate
    silu = (nn.SiLU, import_module("transformers.activations").SiLUActivation)
    return kind._apply_gate is default and isinstance(module.act_fn, silu)


def between(module: nn.Module, rows: Tensor) -> Tensor:
    """What the module does between its two products, of rows [R, N] of the first."""
    apply: Any = module._apply_gate if module.has_gate else module.act_fn
    result: Tensor = apply(rows)
    return result


def check_weights(module: nn.Module) -> None:
    """Raises ScenarioError (field `model`) for weights in a format that ours cannot multiply."""
    for name in weight_names(module):
        weight = getattr(module, name)
        if weight.dtype not in TYPES or weight.dim() != 3:
            raise ScenarioError(
                "model",
                f"{type(module).__name__}.{name} is {weight.dtype}",
                "experts need to be bf16, fp16 or fp32",
                'for quantised experts keep transformers\' own: model.set_experts_implementation("grouped_mm")',
            )
