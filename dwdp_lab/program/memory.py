"""What a rank's memory holds under each strategy: a ledger from the model's shape, in bytes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from dwdp_lab.scenario.model_shape import LatentAttention
from dwdp_lab.scenario.precision import BYTES_PER_PARAM
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName


@dataclass(frozen=True)
class Ledger:
    """Bytes per rank. What is not counted: the framework, fragmentation, caches of other requests."""

    attention: float
    """Projections of all layers."""
    dense: float
    """Dense MLPs, shared experts and routers."""
    embeddings: float
    """Embedding and output head."""
    experts: float
    """Routed experts kept for good."""
    staging: float
    """Slots that experts of other ranks are pulled or gathered into."""
    keys_values: float
    """Keys and values of the largest pass."""
    activations: float
    """Rows on their way through the experts, of the largest pass."""

    @property
    def total(self) -> float:
        return float(sum(getattr(self, each.name) for each in fields(self)))

    def gb(self) -> dict[str, float]:
        """Every entry and the total, in 1e9 bytes."""
        return {each.name: getattr(self, each.name) / 1e9 for each in fields(self)} | {"total": self.total / 1e9}


def ledger(scenario: Scenario, strategy: StrategyName) -> Ledger:
    """The fullest rank's ledger under a strategy, with the scenario's local experts, slots and weight view."""
    model, knobs, batches = scenario.model, scenario.strategy, scenario.batches
    kept = model.experts if strategy == "replicated" else scenario.local_experts
    remote = model.experts - kept
    staged = {"replicated": 0, "dep": 0, "weight_gather": model.experts, "dwdp": remote}[strategy]
    if strategy == "dwdp" and knobs.weight_view == "merged" and remote:
        staged = model.experts
    dense_bytes = BYTES_PER_PARAM[model.dense_dtype or model.dtype]
    passes = [batch for steps in batches.by_rank for batch in steps]
    tokens = max(sum(chunk.new_tokens for chunk in batch) for batch in passes)
    keys = max(sum(chunk.context_tokens + chunk.new_tokens for chunk in batch) for batch in passes)
    heads = model.attention
    per_key = heads.kv_elements_per_token()
    if isinstance(heads, LatentAttention):  # it keeps keys and values compressed
        per_key = heads.kv_lora_rank + heads.qk_rope_head_dim
    shared = model.moe_layers * model.shared_experts * model.expert_bytes
    routers = model.moe_layers * model.hidden * model.experts * BYTES_PER_PARAM[model.dtype]
    mlps = model.dense_layers * 3 * model.hidden * model.dense_intermediate * dense_bytes
    rows = tokens * model.top_k * (2 * model.hidden + 3 * model.expert_intermediate)
    return Ledger(
        attention=model.layers * heads.projection_params(model.hidden) * dense_bytes,
        dense=mlps + shared + routers,
        embeddings=2 * model.vocab * model.hidden * BYTES_PER_PARAM[model.dtype],
        experts=float(model.moe_layers * kept * model.expert_bytes),
        staging=float(knobs.slots * staged * model.expert_bytes),
        keys_values=model.layers * keys * per_key * model.activation_bytes,
        activations=rows * model.activation_bytes,
    )
