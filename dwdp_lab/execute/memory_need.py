"""How much memory CPU ranks will need, so that too large a model is refused before anything starts."""

from __future__ import annotations

import psutil

from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.precision import BYTES_PER_PARAM
from dwdp_lab.scenario.scenario import Scenario

PROCESS_BYTES = 300e6
"""One rank process with torch loaded (measured, torch 2.13 on Linux: 0.25 to 0.3 GB)."""


def needed_bytes(scenario: Scenario) -> float:
    """Weights, staging slots and activations of all ranks together, without what the strategies share."""
    model = scenario.model
    replicated = scenario.strategy.name == "replicated"
    experts = model.experts if replicated else placement(scenario).local_experts
    slots = 0 if replicated else scenario.strategy.slots * pull_plan(scenario, 0).slot.nbytes
    dense = model.layers * model.attention.projection_params(model.hidden) + model.moe_layers * (
        model.experts * model.hidden + model.shared_experts * model.expert_params
    )
    dense += model.dense_layers * 3 * model.hidden * model.dense_intermediate
    per_rank = (
        PROCESS_BYTES + model.moe_layers * experts * model.expert_bytes + slots + dense * BYTES_PER_PARAM[model.dtype]
    )
    tokens = sum(scenario.batches.tokens(rank) for rank in range(scenario.ranks))
    states = tokens * model.hidden * BYTES_PER_PARAM[model.dtype] * (4 + 2 * model.top_k)
    return scenario.ranks * per_rank + states


def check_memory(scenario: Scenario) -> None:
    """Raises ScenarioError (field `model`) when the ranks would need more memory than is free."""
    needed, free = needed_bytes(scenario), psutil.virtual_memory().available
    if needed > free:
        raise ScenarioError(
            "model",
            scenario.model.name,
            f"{scenario.ranks} CPU ranks need about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free",
            "set model.layers lower, take fewer ranks or a smaller model, or --machine sim",
        )
