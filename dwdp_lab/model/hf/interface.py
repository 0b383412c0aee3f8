"""This project's experts as an implementation that any MoE model of transformers can be set to."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor, nn

from dwdp_lab.model.hf.expert_source import source_of
from dwdp_lab.model.hf.experts_module import check_weights, experts_modules, weight_names
from dwdp_lab.model.hf.routed_experts import routed_experts
from dwdp_lab.scenario.errors import ScenarioError

EXPERTS = "dwdp"
"""The implementation's name."""
OLDEST = Version("5.8")
"""Of transformers: from there on a module tells the whole form of its experts (as pyproject.toml asks for)."""


def check_transformers() -> None:
    """Raises ScenarioError where transformers is missing, or older than the experts interface that is used here."""
    hint = "install it: pip install 'dwdp-lab[hf]'"
    if find_spec("transformers") is None:
        raise ScenarioError("transformers", None, "is not installed here", hint)
    if Version(found := version("transformers")) < OLDEST:
        raise ScenarioError("transformers", found, f"its experts interface is of use from {OLDEST} on", hint)


def register_experts() -> str:
    """Make transformers know our experts, and return the name to ask for them by.

    model = AutoModelForCausalLM.from_pretrained(path, experts_implementation=register_experts())

    Raises ScenarioError without transformers 5.
    """
    check_transformers()
    import_module("transformers.integrations.moe").ALL_EXPERTS_FUNCTIONS.register(EXPERTS, experts_forward)
    return EXPERTS


def use_hf_experts(model: Any) -> None:
    """Let a transformers model compute its routed experts by this project's kernels (plain torch on the CPU).

    Everything else about the model stays as it is, and `model.set_experts_implementation("grouped_mm")` turns it back.
    For inference: no gradient goes through the kernels. Raises ScenarioError for a model that it does not fit.
    """
    name = register_experts()
    modules = experts_modules(model)
    for module in modules.values():
        check_weights(module)
    configs: list[Any] = [module.config for module in modules.values()]
    before = [config._experts_implementation for config in configs]
    model.set_experts_implementation(name)
    if others := {type(module).__name__ for module in modules.values() if _implementation(module) != name}:
        for config, implementation in zip(configs, before, strict=True):  # all ours or none
            config._experts_implementation = implementation
        raise ScenarioError(
            "model",
            type(model).__name__,
            f"transformers did not set the experts of {', '.join(sorted(others))}",
            f"load it with from_pretrained(..., experts_implementation={name!r}) after register_experts()",
        )


def experts_forward(module: nn.Module, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """[T, H] of hidden states [T, H] and the chosen experts and their weights [T, k]; what transformers calls."""
    if torch.is_grad_enabled() and (hidden_states.requires_grad or _trained(module)):
        raise RuntimeError(
            f'the experts "{EXPERTS}" are for inference, and a gradient is asked for: call the model under '
            'torch.inference_mode(), or train with model.set_experts_implementation("grouped_mm")'
        )
    return source_of(module).run(
        top_k_index, lambda weights: routed_experts(module, hidden_states, top_k_index, top_k_weights, weights)
    )


def _implementation(module: nn.Module) -> Any:
    config: Any = module.config
    return config._experts_implementation


def _trained(module: nn.Module) -> bool:
    weights = [getattr(module, name) for name in weight_names(module)]
    return any(weight is not None and weight.requires_grad for weight in weights)
