"""Four schedules with a race: mistakes that were shipped, or nearly shipped, in DWDP's first implementations.

Each is written out as one might write it, for two slots, and its race is found by reading. Benchmarks of answers did
not find them: a page of wrong weights still gives fluent text.
"""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


def other_slot(rank: RankView) -> Iterator[Op]:
    for layer in rank.layers[:2]:
        yield rank.pull(0, layer, layer % 2, waits=(), signals=f"pulled {layer % 2}")
    for layer in rank.layers:
        mine, other = layer % 2, 1 - layer % 2
        yield rank.attention(0, layer)
        yield rank.route(0, layer)
        yield rank.experts(0, layer, waits=(f"pulled {mine}",), signals=f"consumed {mine}", slot=mine)
        if layer + 2 in rank.layers:
            free = (f"consumed {other}",) if layer > 0 else ()
            yield rank.pull(0, layer + 2, mine, waits=free, signals=f"pulled {mine}")


def too_early(rank: RankView) -> Iterator[Op]:
    for layer in rank.layers[:2]:
        yield rank.pull(0, layer, layer % 2, waits=(), signals=f"pulled {layer % 2}")
    for layer in rank.layers:
        slot = layer % 2
        yield rank.attention(0, layer)
        yield rank.route(0, layer, signals=f"consumed {slot}")
        yield rank.experts(0, layer, waits=(f"pulled {slot}",), slot=slot)
        if layer + 2 in rank.layers:
            yield rank.pull(0, layer + 2, slot, waits=(f"consumed {slot}",), signals=f"pulled {slot}")


def new_step(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers[:2]:
            yield rank.pull(step, layer, layer % 2, waits=(), signals=f"pulled {layer % 2}")
        for layer in rank.layers:
            slot = layer % 2
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer, waits=(f"pulled {slot}",), signals=f"consumed {slot}", slot=slot)
            if layer + 2 in rank.layers:
                yield rank.pull(step, layer + 2, slot, waits=(f"consumed {slot}",), signals=f"pulled {slot}")


def last_layer(rank: RankView) -> Iterator[Op]:
    for step in rank.busy_steps:
        for layer in rank.layers[:2]:
            free = (f"consumed {layer % 2}",) if step != rank.busy_steps[0] else ()
            yield rank.pull(step, layer, layer % 2, waits=free, signals=f"pulled {layer % 2}")
        for layer in rank.layers:
            slot, more = layer % 2, layer + 2 in rank.layers
            done = f"consumed {slot}" if more else None
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer, waits=(f"pulled {slot}",), signals=done, slot=slot)
            if more:
                yield rank.pull(step, layer + 2, slot, waits=(f"consumed {slot}",), signals=f"pulled {slot}")
