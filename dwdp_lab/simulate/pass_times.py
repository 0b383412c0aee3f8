"""How long passes of other lengths take, from one simulated run of each strategy: what serving a run of requests asks.

DWDP: a rank's pass takes as many times longer than its work alone as in the run, and no less than its pulls.
DEP: the attention of the rank that has most, and the rest (experts, exchanges, waiting for hot experts) in proportion
to the group's tokens.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.serving import Pass


@dataclass(frozen=True)
class PassTimes:
    """Of a scenario and the costs it was simulated with; `step_us` is the mean step that came out."""

    scenario: Scenario
    cost: CostModel
    step_us: float

    def dwdp_us(self, lengths: Pass) -> float:
        """One rank's pass under DWDP."""
        return max(self._longer * self._alone_us(_batch(lengths)), self._pulls_us)

    def dep_us(self, passes: Sequence[Pass]) -> float:
        """A pass of all ranks under DEP."""
        attention = max(self._attention_us(_batch(lengths)) for lengths in passes)
        return attention + self._per_token_us * sum(map(sum, passes))

    @cached_property
    def _amounts(self) -> WorkModel:
        return WorkModel(self.scenario)

    @cached_property
    def _pulls_us(self) -> float:
        nbytes = max(pull_of(self.scenario, rank).nbytes for rank in range(self.scenario.ranks))
        return self.scenario.model.moe_layers * nbytes / self.cost.link_bytes_per_us

    @cached_property
    def _longer(self) -> float:
        steps = [batch for batches in self.scenario.batches.by_rank for batch in batches]
        return self.step_us / statistics.fmean(map(self._alone_us, steps))

    @cached_property
    def _per_token_us(self) -> float:
        batches = self.scenario.batches
        together = list(zip(*batches.by_rank, strict=True))
        attention = math.fsum(max(map(self._attention_us, step)) for step in together)
        tokens = sum(batches.tokens(rank) for rank in range(batches.ranks))
        return (self.step_us * len(together) - attention) / tokens

    def _attention_us(self, batch: Batch) -> float:
        """Attention of all layers."""
        model, amounts = self.scenario.model, self._amounts
        two = [self.cost.work_us(amounts.attention(batch, layer), "attention") for layer in (0, 1)]
        return model.layers * statistics.fmean(two)

    def _alone_us(self, batch: Batch) -> float:
        """All that a rank computes under DWDP, as if nothing were copied."""
        model, amounts, cost = self.scenario.model, self._amounts, self.cost
        tokens = sum(chunk.new_tokens for chunk in batch)
        moe = cost.work_us(amounts.route(tokens), "route")
        moe += cost.work_us(amounts.experts(tokens), "experts")
        dense = (model.layers - model.moe_layers) * cost.work_us(amounts.dense(tokens), "dense")
        return self._attention_us(batch) + dense + model.moe_layers * moe


def _batch(lengths: Pass) -> Batch:
    return tuple([Chunk(number, 0, tokens) for number, tokens in enumerate(lengths)])
