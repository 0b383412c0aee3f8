"""Scenarios made shorter, for questions whose answer does not need all steps or layers."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario

LARGE_GROUP, FEW_LAYERS = 16, 16


def brief(scenario: Scenario, steps: int = 2) -> Scenario:
    """The scenario with few steps, for workloads that can be shortened."""
    if getattr(scenario.workload, "steps", 1) <= steps:
        return scenario
    return scenario.replace(**{"workload.steps": steps})


def few_layers(scenario: Scenario) -> Scenario:
    """A large group with fewer MoE layers, for answers that are ratios: layers are alike."""
    model = scenario.model
    if scenario.ranks <= LARGE_GROUP or model.moe_layers <= FEW_LAYERS:
        return scenario
    return scenario.replace(**{"model.layers": model.layers_with_experts[FEW_LAYERS - 1] + 1})
