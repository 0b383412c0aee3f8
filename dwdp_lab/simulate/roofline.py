"""The roofline of one MoE layer, in closed form: when does pulling the experts hide behind computing with them?

arXiv 2604.01621, section 3:  T_DWDP = max(T_compute, T_pull),  T_DEP = T_compute + T_all2all,
each T_compute a sum over operators of max(FLOPs / peak, bytes / memory bandwidth).

The paper prints neither dimensions nor hardware constants. What fits its curve (all eight values within 4 %), and is
done here: attention and its projections in bf16, the causal core counted once, no time for activations, an all-to-all
that sends a token once for each of its experts, and a DEP rank that reads only its own experts from memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware

MOST_TOKENS = 1 << 20
"""As far as a crossover is looked for."""


@dataclass(frozen=True)
class Roofline:
    """Times of one MoE layer of one rank in a balanced group, in microseconds."""

    compute_us: float
    """Attention, router and experts, reading all experts from memory: DWDP."""
    dep_compute_us: float
    """The same of a DEP rank, which reads only its own experts."""
    pull_us: float
    all_to_all_us: float

    @property
    def dwdp_us(self) -> float:
        return max(self.compute_us, self.pull_us)

    @property
    def dep_us(self) -> float:
        return self.dep_compute_us + self.all_to_all_us

    @property
    def compute_over_pull(self) -> float:
        """At least 1: the pull is hidden."""
        return self.compute_us / self.pull_us

    @property
    def dep_over_dwdp(self) -> float:
        """At least 1: DWDP is as fast or faster."""
        return self.dep_us / self.dwdp_us


@dataclass(frozen=True)
class _Layer:
    """The first MoE layer of a scenario whose ranks all have one request of so many tokens."""

    scenario: Scenario
    cost: CostModel
    tokens: int

    @cached_property
    def balanced(self) -> Scenario:
        ranks = self.scenario.ranks
        return self.scenario.replace(
            workload={
                "kind": "explicit",
                "lengths": [[self.tokens]] * ranks,
                "router_skew": self.scenario.workload.router_skew,
                "seed": self.scenario.workload.seed,
            }
        )

    def roofline(self) -> Roofline:
        scenario, cost = self.balanced, self.cost
        amounts = WorkModel(scenario)
        layer, ranks = scenario.model.layers_with_experts[0], range(scenario.ranks)
        before_us = cost.work_us(amounts.attention(scenario.batches.by_rank[0][0], layer))
        before_us += cost.work_us(amounts.route(self.tokens))
        sent = [
            [amounts.dispatch(rank, 0, layer) for rank in ranks],
            [amounts.combine(rank, 0, layer) for rank in ranks],
        ]
        return Roofline(
            compute_us=before_us + cost.work_us(amounts.experts(self.tokens)),
            dep_compute_us=before_us + max(cost.work_us(amounts.computed_experts(rank, 0, layer)) for rank in ranks),
            pull_us=max(pull_of(scenario, rank).nbytes for rank in ranks) / cost.link_bytes_per_us,
            all_to_all_us=math.fsum(cost.collective_us(all_to_all) for all_to_all in sent),
        )


def roofline(scenario: Scenario, tokens: int | None = None, hardware: Hardware | None = None) -> Roofline:
    """Times of one MoE layer when every rank has one request of `tokens` (None: the mean tokens of a rank's pass).

    What DEP sends is as the scenario's `strategy.dep_rows` says (`per_expert` for the paper's figures). Raises
    ScenarioError for a profile that is unknown or cannot run the model.
    """
    profile = hardware or load_hardware(scenario.hardware)
    if tokens is None:
        batches = scenario.batches
        tokens = max(1, round(sum(map(batches.tokens, range(batches.ranks))) / batches.ranks / batches.steps))
    return _Layer(scenario, CostModel.of(profile, scenario.link_gbps), tokens).roofline()


def hiding_tokens(scenario: Scenario, hardware: Hardware | None = None) -> int | None:
    """The fewest tokens of a single request behind which the pull is hidden; None when no length does."""
    return _fewest(lambda tokens: roofline(scenario, tokens, hardware).compute_over_pull)


def crossover_tokens(scenario: Scenario, hardware: Hardware | None = None) -> int | None:
    """The fewest tokens of a single request with which DWDP is as fast as DEP; None when no length does."""
    return _fewest(lambda tokens: roofline(scenario, tokens, hardware).dep_over_dwdp)


def _fewest(ratio: Callable[[int], float]) -> int | None:
    """The smallest number of tokens from which the ratio is at least 1 (it rises until then)."""
    high = 1
    while ratio(high) < 1.0:
        high *= 2
        if high > MOST_TOKENS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ratio(middle) < 1.0 else (low, middle)
    return high
