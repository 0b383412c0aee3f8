"""Every rank keeps all weights: the bound no way of sharing them can beat (if only it fitted into memory)."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


def replicated(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers:
            yield rank.attention(step, layer)
            if layer in rank.moe_layers:
                yield rank.route(step, layer)
                yield rank.experts(step, layer)
            else:
                yield rank.dense(step, layer)
