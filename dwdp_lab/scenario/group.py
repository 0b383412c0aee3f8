"""The DWDP group: how many ranks, and how many experts each keeps for good."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dwdp_lab.scenario.allowed import NoneWord


class Group(BaseModel):
    """`ranks` is N; `local_experts` is L, the experts of a layer each rank keeps (None: as few as possible).

    Any N and any L with ceil(E / N) <= L <= E are allowed; E comes from the model, so the scenario checks it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ranks: Annotated[int, Field(ge=1, le=256)] = 2
    local_experts: Annotated[Annotated[int, Field(ge=1)] | None, NoneWord] = None

    def least_local_experts(self, experts: int) -> int:
        """ceil(E / N): with fewer, some expert would have no owner."""
        return -(-experts // self.ranks)

    def resolved_local_experts(self, experts: int) -> int:
        """L, with the default filled in."""
        return self.local_experts if self.local_experts is not None else self.least_local_experts(experts)
