"""weight_gather: DWDP's prefetching, but by an all-gather of the weights: a collective, so the ranks meet again."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.dwdp import prefetching
from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


def weight_gather(rank: RankView) -> Iterator[Op]:
    yield from prefetching(rank, rank.gather_weights, rank.all_steps, rank.knobs.distance, merge=False)
