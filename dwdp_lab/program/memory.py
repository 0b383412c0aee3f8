"""What a rank's memory holds under each strategy: a ledger from the model's shape, in bytes.

`tensor` keeps a share of every layer, of keys and values too (a compressed cache, which all heads read, whole), and the
router and embeddings whole: a vocabulary cut across ranks would need all-reduces of its own. `pipeline` keeps some
layers whole, the embedding on the first stage and the output head on the last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.program.tensor_view import joint_batch
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.model_shape import LatentAttention, ModelShape
from dwdp_lab.scenario.precision import BYTES_PER_PARAM
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import narrowed, share_of, stage_of
from dwdp_lab.scenario.strategy import StrategyName


@dataclass(frozen=True)
class Ledger:
    """Bytes per rank. What is not counted: the framework, fragmentation, caches of other requests, and the mailboxes
    of GPU ranks (program/mailbox.py)."""

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
        return math.fsum(getattr(self, each.name) for each in fields(self))

    def gb(self) -> dict[str, float]:
        """Every entry and the total, in 1e9 bytes."""
        return {each.name: getattr(self, each.name) / 1e9 for each in fields(self)} | {"total": self.total / 1e9}


class _Kept(NamedTuple):
    """What one rank keeps of the model, and computes at once."""

    model: ModelShape  # as wide as the rank's share
    layers: range
    embeddings: int  # embedding and output head: how many of the two
    experts: int  # of a layer, for good
    staged: int  # experts that a slot has room for
    passes: Sequence[Batch]  # computed one after another
    cached: Sequence[Batch]  # whose keys and values are kept at once


def ledger(scenario: Scenario, strategy: StrategyName) -> Ledger:
    """The fullest rank's ledger under a strategy, with the scenario's local experts, slots and weight view."""
    return max(
        (_ledger(kept, scenario.strategy.slots) for kept in _kept(scenario, strategy)), key=lambda one: one.total
    )


def _kept(scenario: Scenario, strategy: StrategyName) -> Iterator[_Kept]:
    """What each rank keeps; one rank where all keep the same."""
    model, batches, ranks = scenario.model, scenario.batches, scenario.ranks
    steps = range(batches.steps)
    if strategy == "tensor":
        together = [joint_batch(batches.by_rank, step) for step in steps]
        for rank in range(ranks):
            share = narrowed(model, share_of(model, ranks, rank))
            yield _Kept(share, range(model.layers), 2, model.experts, 0, together, together)
    elif strategy == "pipeline":
        together = [joint_batch(batches.by_rank, step) for step in steps]
        micro = [part.batch for step in steps for part in micro_batches(scenario, step)]
        for rank in range(ranks):
            stage = stage_of(model, ranks, rank)
            ends = (0 in stage) + (model.layers - 1 in stage)
            # a stage keeps the keys of every micro-batch of a step, for the steps that decode
            yield _Kept(model, stage, ends, model.experts, 0, micro, together)
    else:
        kept = model.experts if strategy == "replicated" else scenario.local_experts
        remote = model.experts - kept
        staged = {"replicated": 0, "dep": 0, "weight_gather": model.experts, "dwdp": remote}[strategy]
        if strategy == "dwdp" and scenario.strategy.weight_view == "merged" and remote:
            staged = model.experts
        passes = [batch for by_step in batches.by_rank for batch in by_step]
        yield _Kept(model, range(model.layers), 2, kept, staged, passes, passes)


def _ledger(kept: _Kept, slots: int) -> Ledger:
    model = kept.model
    dense_bytes = BYTES_PER_PARAM[model.dense_dtype or model.dtype]
    moe_layers = sum(map(model.has_experts, kept.layers))
    dense_layers = len(kept.layers) - moe_layers
    tokens = max(sum(chunk.new_tokens for chunk in batch) for batch in kept.passes) if kept.layers else 0
    keys = max(sum(chunk.context_tokens + chunk.new_tokens for chunk in batch) for batch in kept.cached)
    heads = model.attention
    per_key = heads.kv_elements_per_token()
    if isinstance(heads, LatentAttention):  # it keeps keys and values compressed
        per_key = heads.kv_lora_rank + heads.qk_rope_head_dim
    shared = moe_layers * model.shared_experts * model.shared_expert_bytes
    routers = moe_layers * model.hidden * model.experts * BYTES_PER_PARAM[model.dtype]
    mlps = dense_layers * 3 * model.hidden * model.dense_intermediate * dense_bytes
    rows = tokens * model.top_k * (2 * model.hidden + 3 * model.expert_intermediate)
    return Ledger(
        attention=len(kept.layers) * heads.projection_params(model.hidden) * dense_bytes,
        dense=mlps + shared + routers,
        embeddings=kept.embeddings * model.vocab * model.hidden * BYTES_PER_PARAM[model.dtype],
        experts=float(moe_layers * kept.experts * model.expert_bytes),
        staging=float(slots * kept.staged * model.expert_bytes),
        keys_values=len(kept.layers) * keys * per_key * model.activation_bytes,
        activations=rows * model.activation_bytes,
    )
