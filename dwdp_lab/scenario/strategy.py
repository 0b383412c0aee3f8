"""Which parallel strategy runs, and its knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dwdp_lab.scenario.allowed import NoneWord, Says, SizeWord
from dwdp_lab.scenario.errors import ScenarioError

StrategyName = Literal["replicated", "dep", "weight_gather", "dwdp", "tensor", "pipeline"]
WeightView = Literal["merged", "split", "composite"]
PeerOrder = Literal["ascending", "rotated", "interleaved", "permutation"]
Pulled = Literal["all", "routed"]
CopyCalls = Literal["auto", "plain", "batched"]
DepForm = Literal["auto", "all_to_all", "all_gather"]
DepRows = Literal["per_rank", "per_expert"]
Collectives = Literal["auto", "copy", "nccl"]


class Strategy(BaseModel):
    """The strategy and its knobs; knobs a strategy does not use are kept and ignored.

    - `overlap`: pull while computing; off means pull, then compute (for the lesson).
    - `slots`: staging buffers that pulls cycle through.
    - `prefetch_distance` d: the pull for an MoE layer may start once the experts d MoE layers earlier start.
      None means as early as a free slot allows (d = slots); more than `slots` is impossible. With d = slots a pull
      begins beside attention; with less, beside experts, which it disturbs less, but with less time in hand.
    - `cross_step`: the first pulls of a step may start while the step before it still computes.
    - `weight_view`: how the experts' kernel sees local and pulled weights.
    - `slice_bytes`: size of one copy, also written `2MiB`; None copies a parameter's share of a peer at once.
    - `peer_order`: in which order a rank visits its peers (see program/pull_plan.py).
    - `pull`: all experts that a rank lacks, or only those that its tokens were routed to. The latter are known only
      when the layer has routed, so nothing hides their pull: for batches so small that most experts are not visited.
    - `copy_calls`: on GPUs, one call per copy or one for all copies of a pull; `auto` takes what is faster when tried.
    - `dep_form`: how DEP exchanges tokens: all-to-all, or all-gather and reduce-scatter; `auto` takes the one that
      moves fewer bytes.
    - `dep_rows`: what DEP's all-to-all sends: a token once to every rank that has any of its experts (the stronger
      form), or once for each of its experts (the form that fits the paper's roofline).
    - `collectives`: on GPUs, how ranks meet: by copy engine through each other's memory, which holds no processors, or
      over NCCL; `auto` takes copies where they work, and NCCL for `weight_gather` where it can. Rows of an all-to-all
      that go once to a rank are then written by a kernel, and the host need not know how many they are.
    - `micro_batches`: into how many parts, of whole requests, a rank's batch is cut on its way through the stages of
      `pipeline`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: StrategyName = "dwdp"
    overlap: bool = True
    slots: Annotated[int, Field(ge=1, le=3)] = 2
    prefetch_distance: Annotated[Annotated[int, Field(ge=1, le=3)] | None, NoneWord] = None
    cross_step: bool = False
    weight_view: WeightView = "split"
    slice_bytes: Annotated[
        Annotated[int, Field(ge=1024)] | None,
        SizeWord,
        NoneWord,
        Says("a size from 1KiB up, in bytes or such as 64KiB or 2MiB"),
    ] = None
    peer_order: PeerOrder = "rotated"
    pull: Pulled = "all"
    copy_calls: CopyCalls = "auto"
    dep_form: DepForm = "auto"
    dep_rows: DepRows = "per_rank"
    collectives: Collectives = "auto"
    micro_batches: Annotated[int, Field(ge=1, le=64)] = 1

    @model_validator(mode="after")
    def _distance_fits(self) -> Strategy:
        if self.prefetch_distance is not None and self.prefetch_distance > self.slots:
            raise ScenarioError(
                "strategy.prefetch_distance",
                self.prefetch_distance,
                f"must be at most strategy.slots ({self.slots}): a pull needs a free slot to land in",
            )
        return self

    @property
    def distance(self) -> int:
        """Prefetch distance in MoE layers, 0 when overlap is off."""
        if not self.overlap:
            return 0
        return self.prefetch_distance if self.prefetch_distance is not None else self.slots
