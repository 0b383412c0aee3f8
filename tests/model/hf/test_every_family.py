"""All experts modules that transformers has, of whichever model: ours give what their own loops give."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from tiny_models import transformers_here

from dwdp_lab.model.hf.experts_module import is_swiglu
from dwdp_lab.model.hf.interface import register_experts

EXPERTS = 5
OTHERS = {"hidden_size": 32, "num_experts_per_tok": 2, "swiglu_limit": 7.0, "moe_latent_size": None}


class AnyConfig:
    """Says of everything that it is small, so that no family's names have to be known."""

    _experts_implementation = "eager"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if "act" in name and "expert" not in name:  # hidden_act, hidden_activation, ...
            return "silu"
        if "intermediate" in name:
            return 16
        return OTHERS.get(name, EXPERTS if name.endswith(("experts", "experts_per_layer")) else 1)


def experts_classes() -> list[type[torch.nn.Module]]:
    """Those that transformers' source decorates."""
    models = Path(transformers_here().__file__).parent / "models"
    found = []
    for path in sorted(models.glob("*/modeling_*.py")):
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^@use_experts_implementation(?:\(.*\))?\nclass (\w+)", text, re.M):
            found.append(getattr(import_module(f"transformers.models.{path.parent.name}.{path.stem}"), name))
    return found


@torch.inference_mode()
def relative_difference(module: torch.nn.Module) -> float:
    """Of the module's own loop and ours, in fp32."""
    random = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.normal_(std=0.2, generator=random)
    width = module.down_proj.shape[2 if module.is_transposed else 1]
    x, weights = torch.randn(17, width, generator=random), torch.rand(17, 2, generator=random)
    ids = torch.rand(17, EXPERTS, generator=random).argsort(dim=1)[:, :2]
    results = []
    for implementation in ("eager", register_experts()):
        module.config._experts_implementation = implementation
        results.append(module(x, ids, weights))
    return float((results[0] - results[1]).abs().max() / results[0].abs().max())


def test_every_experts_module_of_transformers_can_be_ours() -> None:
    modules = [kind(AnyConfig()).eval() for kind in experts_classes()]
    off = {type(module).__name__: relative_difference(module) for module in modules}
    assert len(off) >= 36  # as many has 5.8, the oldest that will do
    assert {name: error for name, error in off.items() if not error <= 1e-5} == {}
    assert sum(map(is_swiglu, modules)) > len(modules) / 2  # most are what the fused kernel computes
