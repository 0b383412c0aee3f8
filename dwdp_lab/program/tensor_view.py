"""What a rank of `tensor` does: its share of every layer, for the tokens of all ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from dwdp_lab.program.operation import Collective, Kind, Op, Work
from dwdp_lab.program.rank_view import RankView
from dwdp_lab.program.work import WorkModel
from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.shares import Share, share_of

Works = tuple[Work, ...]
Events = tuple[str, ...]


@dataclass(frozen=True)
class TensorView:
    """A rank's operations on the joint batch of a step: the requests of all ranks, in rank order."""

    rank: RankView
    _known: dict[tuple[str, int, int], Works] = field(default_factory=dict, repr=False)
    _summed: dict[int, Collective] = field(default_factory=dict, repr=False)

    @cached_property
    def share(self) -> Share:
        """The heads and columns this rank keeps."""
        return share_of(self.rank.scenario.model, self.rank.scenario.ranks, self.rank.rank)

    @cached_property
    def amounts(self) -> WorkModel:
        """Work of the layers as narrow as the share."""
        return self.rank.amounts.narrowed(self.share)

    @cached_property
    def busy_steps(self) -> tuple[int, ...]:
        """The steps in which any rank has tokens."""
        return tuple(step for step in self.rank.all_steps if self.tokens(step))

    def tokens(self, step: int) -> int:
        """New tokens of all ranks in a step."""
        batches = self.rank.scenario.batches
        return sum(batches.tokens(rank, step) for rank in range(batches.ranks))

    def attention(self, step: int, layer: int, waits: Events, signals: str) -> Op:
        """The share's heads: norm (every rank does all of it), projections, causal attention; no residual yet."""
        by_rank = self.rank.scenario.batches.by_rank
        work = self._once(
            "attention", step, layer % 2, lambda: self.amounts.attention(joint_batch(by_rank, step), layer)
        )
        return Op("attention", "compute", step, layer, waits, signals, work)

    def route(self, step: int, layer: int, waits: Events) -> Op:
        """Router and top-k of all tokens: every rank does all of it, and finds the same."""
        work = self._once("route", step, 0, lambda: self.amounts.route(self.tokens(step)))
        return Op("route", "compute", step, layer, waits, None, work)

    def experts(self, step: int, layer: int, signals: str) -> Op:
        """The share's columns of all experts, routed and shared; no residual yet."""
        work = self._once("experts", step, 0, lambda: self.amounts.experts(self.tokens(step)))
        return Op("experts", "compute", step, layer, (), signals, work)

    def dense(self, step: int, layer: int, waits: Events, signals: str) -> Op:
        """The share's columns of a dense layer's MLP; no residual yet."""
        work = self._once("dense", step, 0, lambda: self.amounts.dense(self.tokens(step)))
        return Op("dense", "compute", step, layer, waits, signals, work)

    def all_reduce(self, kind: Kind, step: int, layer: int, waits: Events, signals: str) -> Op:
        """Add up all ranks' parts of what attention (all_reduce_attention) or the MLP (all_reduce_mlp) gives."""
        if step not in self._summed:
            self._summed[step] = self.rank.amounts.all_reduce(self.rank.rank, self.tokens(step))
        return Op(kind, "comm", step, layer, waits, signals, collective=self._summed[step])

    def _once(self, name: str, step: int, variant: int, make: Callable[[], Works]) -> Works:
        """Most layers do the same work: one object for all of them."""
        key = (name, step, variant)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = make()
        return known


def joint_batch(by_rank: tuple[tuple[Batch, ...], ...], step: int) -> Batch:
    """The requests of all ranks in a step, in rank order."""
    return tuple(chunk for steps in by_rank for chunk in steps[step])
