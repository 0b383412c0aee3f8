"""The shape of a mixture-of-experts decoder: the numbers that decide its FLOPs and bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from dwdp_lab.scenario.allowed import NoneWord
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.precision import BYTES_PER_PARAM, CHANNEL_SCALE_BYTES, ExpertPrecision, Precision, scaled_bytes


class GroupedQueryAttention(BaseModel):
    """Grouped-query attention. `window` limits how far back layers 0, 2, 4, ... look (None: no limit)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["gqa"] = "gqa"
    heads: PositiveInt
    kv_heads: PositiveInt
    head_dim: PositiveInt
    window: Annotated[PositiveInt | None, NoneWord] = None

    @model_validator(mode="after")
    def _heads_divide(self) -> GroupedQueryAttention:
        if self.heads % self.kv_heads:
            raise ScenarioError(
                "model.attention.heads", self.heads, f"must be a multiple of kv_heads ({self.kv_heads})"
            )
        return self

    def projection_params(self, hidden: int) -> int:
        """Parameters of the q, k, v and output projections of one layer."""
        return hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    def output_params(self, hidden: int) -> int:
        """Those of them that belong to the output projection."""
        return hidden * self.head_dim * self.heads

    def context_params(self) -> int:
        """Parameters that cached tokens go through again: none, as keys and values are cached as they are used."""
        return 0

    def core_flops_per_pair(self) -> int:
        """FLOPs for one (query, key) pair over all heads: score and weighted sum."""
        return 4 * self.heads * self.head_dim

    def kv_elements_per_token(self) -> int:
        """Elements of keys and values kept per token and layer."""
        return 2 * self.kv_heads * self.head_dim

    def query_elements_per_token(self) -> int:
        """Elements of the queries read plus the outputs written per token and layer."""
        return 2 * self.heads * self.head_dim

    def qkv_elements_per_token(self) -> int:
        """Elements of queries, keys and values made per token and layer."""
        return (self.heads + 2 * self.kv_heads) * self.head_dim


class LatentAttention(BaseModel):
    """Multi-head latent attention (DeepSeek), not absorbed, as used in prefill. Queries are projected at once where
    `q_lora_rank` is None (DeepSeek-V2-Lite)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["mla"] = "mla"
    heads: PositiveInt
    q_lora_rank: Annotated[PositiveInt | None, NoneWord]
    kv_lora_rank: PositiveInt
    qk_nope_head_dim: PositiveInt
    qk_rope_head_dim: PositiveInt
    v_head_dim: PositiveInt

    @property
    def window(self) -> int | None:
        return None

    def projection_params(self, hidden: int) -> int:
        queries = self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim)
        return (
            (hidden * queries if self.q_lora_rank is None else self.q_lora_rank * (hidden + queries))
            + hidden * (self.kv_lora_rank + self.qk_rope_head_dim)
            + self.context_params()
            + self.heads * self.v_head_dim * hidden
        )

    def output_params(self, hidden: int) -> int:
        return hidden * self.heads * self.v_head_dim

    def context_params(self) -> int:
        """Those that make keys and values of what is cached, which is compressed: for every cached token once more."""
        return self.kv_lora_rank * self.heads * (self.qk_nope_head_dim + self.v_head_dim)

    def core_flops_per_pair(self) -> int:
        return 2 * self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim)

    def kv_elements_per_token(self) -> int:
        return self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim)

    def query_elements_per_token(self) -> int:
        return self.heads * (self.qk_nope_head_dim + self.qk_rope_head_dim + self.v_head_dim)

    def qkv_elements_per_token(self) -> int:
        return self.heads * (2 * (self.qk_nope_head_dim + self.qk_rope_head_dim) + self.v_head_dim)


Attention = Annotated[GroupedQueryAttention | LatentAttention, Field(discriminator="kind")]


class ModelShape(BaseModel):
    """One MoE decoder.

    `layers` counts all decoder layers; the first `dense_layers` of them have an ordinary MLP of width
    `dense_intermediate` and no experts, and so have those numbered in `more_dense_layers` (numbers from `layers` on
    count for nothing, so that a model can be cut short). `experts` are the routed ones of one layer, `top_k` of which
    each token visits; `shared_experts` are visited by every token and replicated on every rank.
    `expert_dtype` is what routed and shared experts are kept in (shared ones in `dtype` where it is `fp8_channel`),
    `dense_dtype` the projections of attention and dense MLPs (None: `dtype`), `dtype` everything else and the
    activations.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "custom"
    layers: Annotated[int, Field(ge=1, le=1024)]
    hidden: PositiveInt
    attention: Attention
    experts: PositiveInt
    top_k: PositiveInt
    expert_intermediate: PositiveInt
    shared_experts: Annotated[int, Field(ge=0)] = 0
    dense_layers: Annotated[int, Field(ge=0)] = 0
    more_dense_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    dense_intermediate: Annotated[int, Field(ge=0)] = 0
    vocab: PositiveInt = 32000
    normalise_top_k: bool = True
    rms_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6
    rope_theta: Annotated[float, Field(gt=0, le=1e12)] = 10000.0
    dtype: Precision = "bf16"
    expert_dtype: ExpertPrecision = "bf16"
    dense_dtype: Precision | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ModelShape:
        if self.top_k > self.experts:
            raise ScenarioError("model.top_k", self.top_k, f"must be at most experts ({self.experts})")
        if self.dense_layers >= self.layers:
            raise ScenarioError("model.dense_layers", self.dense_layers, f"must be less than layers ({self.layers})")
        if not self.moe_layers:
            dense = list(self.more_dense_layers)
            raise ScenarioError("model.more_dense_layers", dense, f"leaves none of {self.layers} layers with experts")
        if self.layers > self.moe_layers and not self.dense_intermediate:
            raise ScenarioError(
                "model.dense_intermediate",
                self.dense_intermediate,
                f"must be from 1 up for the {self.layers - self.moe_layers} dense layers",
            )
        return self

    def has_experts(self, layer: int) -> bool:
        """Whether this decoder layer has experts, and no ordinary MLP."""
        return layer >= self.dense_layers and layer not in self.more_dense_layers

    @property
    def layers_with_experts(self) -> Sequence[int]:
        """Their numbers, in order."""
        after = range(self.dense_layers, self.layers)
        return tuple(layer for layer in after if self.has_experts(layer)) if self.more_dense_layers else after

    @property
    def moe_layers(self) -> int:
        """How many layers have experts."""
        return len(self.layers_with_experts)

    @property
    def expert_params(self) -> int:
        """Parameters of one routed expert: gate, up and down projection."""
        return 3 * self.hidden * self.expert_intermediate

    @property
    def expert_matrices(self) -> tuple[tuple[str, tuple[int, int]], ...]:
        """Names and (out, in) sizes of one expert's matrices in memory order; w13 is the gate above the up one."""
        hidden, inner = self.hidden, self.expert_intermediate
        return ("w13", (2 * inner, hidden)), ("w2", (hidden, inner))

    @property
    def params(self) -> int:
        """Parameters of the whole model, as a model's card counts them, without norms and biases."""
        attention = self.layers * self.attention.projection_params(self.hidden)
        dense = (self.layers - self.moe_layers) * 3 * self.hidden * self.dense_intermediate
        experts = (self.experts + self.shared_experts) * self.expert_params + self.experts * self.hidden
        return attention + dense + self.moe_layers * experts + 2 * self.vocab * self.hidden

    @property
    def expert_bytes(self) -> int:
        """Bytes of one routed expert with its scales, rounded up."""
        if self.expert_dtype == "fp8_channel":
            return sum(scaled_bytes(*size) for _, size in self.expert_matrices)
        return _whole(self.expert_params * BYTES_PER_PARAM[self.expert_dtype])

    @property
    def shared_dtype(self) -> Precision:
        """What shared experts are kept in: ranks multiply them as they do dense layers, for which there are no scales
        per channel."""
        return self.dtype if self.expert_dtype == "fp8_channel" else self.expert_dtype

    @property
    def shared_expert_bytes(self) -> int:
        """Bytes of one shared expert with its block scales, rounded up."""
        return _whole(self.expert_params * BYTES_PER_PARAM[self.shared_dtype])

    @property
    def activation_bytes(self) -> float:
        """Bytes of one activation element."""
        return BYTES_PER_PARAM[self.dtype]

    @property
    def dispatch_bytes(self) -> float:
        """Bytes of one element on its way to an expert: tokens are quantised before they are sent."""
        if self.expert_dtype == "fp8_channel":  # with a scale per row
            return 1.0 + CHANNEL_SCALE_BYTES / self.hidden
        return min(BYTES_PER_PARAM[self.dtype], BYTES_PER_PARAM[self.expert_dtype])


def _whole(nbytes: float) -> int:
    return -int(-nbytes // 1)
