"""Micro-batches: the portions in which a step of all ranks goes through the stages of a pipeline.

A portion is one rank's batch of the step, or a part of it: `strategy.micro_batches` says into how many parts a batch is
cut. Requests stay whole (the second half of one would need the keys of the first), so there may be fewer parts.
"""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.scenario.batches import Batch
from dwdp_lab.scenario.scenario import Scenario


class MicroBatch(NamedTuple):
    """Some requests of one rank's batch. `first_token`: where they begin among the batch's new tokens."""

    rank: int
    first_token: int
    batch: Batch

    @property
    def tokens(self) -> int:
        return sum(chunk.new_tokens for chunk in self.batch)


def micro_batches(scenario: Scenario, step: int) -> tuple[MicroBatch, ...]:
    """The micro-batches of a step, in the order in which they go through the stages; none of them is empty."""
    parts = scenario.strategy.micro_batches
    return tuple(
        part for rank, steps in enumerate(scenario.batches.by_rank) for part in _parts(rank, steps[step], parts)
    )


def _parts(rank: int, batch: Batch, parts: int) -> list[MicroBatch]:
    """A request belongs to the part that its middle token falls into when all tokens are dealt out evenly."""
    total = sum(chunk.new_tokens for chunk in batch)
    found: list[MicroBatch] = []
    before, last = 0, -1
    for chunk in batch:
        part = parts * (2 * before + chunk.new_tokens) // (2 * total)
        if part == last:
            found[-1] = found[-1]._replace(batch=(*found[-1].batch, chunk))
        else:
            found.append(MicroBatch(rank, before, (chunk,)))
        before, last = before + chunk.new_tokens, part
    return found
