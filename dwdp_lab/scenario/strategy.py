"""Which parallel strategy runs, and its knobs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

StrategyName = Literal["replicated", "dep", "weight_gather", "dwdp"]
WeightView = Literal["merged", "split", "composite"]
PeerOrder = Literal["ascending", "rotated", "interleaved", "permutation"]
DepForm = Literal["auto", "all_to_all", "all_gather"]


class Strategy(BaseModel):
    """The strategy and its knobs; knobs a strategy does not use are kept and ignored.

    - `overlap`: pull while computing; off means pull, then compute (for the lesson).
    - `slots`: staging buffers that pulls cycle through.
    - `prefetch_distance` d: the pull for an MoE layer may start once the experts d MoE layers earlier start.
      None means as early as a free slot allows (d = slots); more than `slots` is impossible.
    - `cross_step`: the first pulls of a step may start while the step before it still computes.
    - `weight_view`: how the experts' kernel sees local and pulled weights.
    - `slice_bytes`: size of one copy; None copies a parameter's whole share of a peer at once.
    - `peer_order`: in which order a rank visits its peers (see program/pull_plan.py).
    - `dep_form`: how DEP exchanges tokens; `auto` takes the one that moves fewer bytes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: StrategyName = "dwdp"
    overlap: bool = True
    slots: Annotated[int, Field(ge=1, le=3)] = 2
    prefetch_distance: Annotated[int, Field(ge=1, le=3)] | None = None
    cross_step: bool = False
    weight_view: WeightView = "split"
    slice_bytes: Annotated[int, Field(ge=1024)] | None = None
    peer_order: PeerOrder = "rotated"
    dep_form: DepForm = "auto"

    @model_validator(mode="after")
    def _distance_fits(self) -> Strategy:
        if self.prefetch_distance is not None and self.prefetch_distance > self.slots:
            raise ValueError(
                f"prefetch_distance ({self.prefetch_distance}) must be at most slots ({self.slots}): "
                "a pull needs a free slot to land in"
            )
        return self

    @property
    def distance(self) -> int:
        """Prefetch distance in MoE layers, 0 when overlap is off."""
        if not self.overlap:
            return 0
        return self.prefetch_distance if self.prefetch_distance is not None else self.slots
