"""What each rank has to compute in each pass: the form every workload is turned into."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Chunk(NamedTuple):
    """A stretch of one request: `new_tokens` to compute after `context_tokens` that are cached.

    The context is either a prefix-cache hit or the part of the request that an earlier pass computed.
    """

    request: int
    context_tokens: int
    new_tokens: int


Batch = tuple[Chunk, ...]


@dataclass(frozen=True)
class Batches:
    """`by_rank[r][s]` is what rank r computes in step s; ranks that run out of work have empty batches."""

    by_rank: tuple[tuple[Batch, ...], ...]

    @property
    def ranks(self) -> int:
        return len(self.by_rank)

    @property
    def steps(self) -> int:
        return len(self.by_rank[0])

    def tokens(self, rank: int, step: int | None = None) -> int:
        """New tokens of one rank in one step, or in all steps."""
        by_step = self._tokens[rank]
        return sum(by_step) if step is None else by_step[step]

    @cached_property
    def _tokens(self) -> tuple[tuple[int, ...], ...]:
        """Of each rank in each step: asked for by every pair of ranks of every collective."""
        return tuple(tuple(sum(chunk.new_tokens for chunk in batch) for batch in batches) for batches in self.by_rank)

    @cached_property
    def tokens_by_step(self) -> tuple[tuple[int, ...], ...]:
        """New tokens of every rank, for each step."""
        return tuple(zip(*self._tokens, strict=True))

    def cv(self, step: int) -> float:
        """Imbalance of one step: standard deviation over mean of the ranks' tokens (population form)."""
        tokens = [self.tokens(rank, step) for rank in range(self.ranks)]
        mean = statistics.fmean(tokens)
        return statistics.pstdev(tokens) / mean if mean else 0.0

    def mean_cv(self) -> float:
        """Mean imbalance over the steps."""
        return statistics.fmean(self.cv(step) for step in range(self.steps))
