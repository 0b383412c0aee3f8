"""Which rank keeps which experts, and from whom each rank pulls the others.

Rank r keeps the L experts from start(r) = floor(r (E - L) / (N - 1)). Where E = L + (N - 1) P this is
[rP, rP + L), as in TensorRT-LLM's first DWDP (`_torch/pyexecutor/dwdp.py`); otherwise neighbours' windows move by P or
P - 1. Windows overlap when L is more than needed: an expert then has several owners, and a rank pulls it from the
nearest of them in rank order, which gives every peer about the same share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from dwdp_lab.scenario.scenario import Scenario


@dataclass(frozen=True)
class Placement:
    """Placement of the E experts of a layer over N ranks that keep L each; the same for every layer."""

    experts: int
    ranks: int
    local_experts: int

    @cached_property
    def starts(self) -> tuple[int, ...]:
        if self.ranks == 1:
            return (0,)
        spare = self.experts - self.local_experts
        return tuple(rank * spare // (self.ranks - 1) for rank in range(self.ranks))

    def local(self, rank: int) -> range:
        """Experts the rank keeps for good."""
        return range(self.starts[rank], self.starts[rank] + self.local_experts)

    def pulled(self, rank: int) -> tuple[tuple[int, range], ...]:
        """(peer, experts) for every peer something is pulled from, in ascending order of experts.

        Each remote expert occurs exactly once: a lower peer p gives the head of its window up to where the next
        window begins, a higher one the tail beyond the window before it.
        """
        shares = []
        for peer in range(self.ranks):
            if peer < rank:
                share = range(self.starts[peer], self.starts[peer + 1])
            elif peer > rank:
                share = range(self.starts[peer - 1] + self.local_experts, self.starts[peer] + self.local_experts)
            else:
                continue
            if share:
                shares.append((peer, share))
        return tuple(shares)

    @cached_property
    def _cuts(self) -> tuple[int, ...]:
        """Boundaries of the partition `computed`: as even as the windows allow."""
        inner = [
            min(
                max(rank * self.experts // self.ranks, self.starts[rank]),
                self.starts[rank - 1] + self.local_experts,
            )
            for rank in range(1, self.ranks)
        ]
        return (0, *inner, self.experts)

    def computed(self, rank: int) -> range:
        """Experts this rank computes under expert parallelism: a partition, each within the rank's own window."""
        return range(self._cuts[rank], self._cuts[rank + 1])


def placement(scenario: Scenario) -> Placement:
    """The placement of a scenario's experts."""
    return Placement(scenario.model.experts, scenario.ranks, scenario.local_experts)
