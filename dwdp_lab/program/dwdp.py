"""DWDP: every rank on its own; the experts it lacks are pulled from peers while the layers before compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView

Fetch = Callable[[int, int, int, tuple[str, ...], str], Op]
"""(step, layer, slot, waits, signals) to the operation that fills the slot."""


def dwdp(rank: RankView) -> Iterator[Op]:
    """Two lanes and, per slot, two events: `pulled` (read after write) and `consumed` (write after read)."""
    knobs = rank.knobs
    distance = 0 if knobs.pull == "routed" else knobs.distance  # which experts are routed to is known no earlier
    yield from prefetching(rank, rank.pull, rank.busy_steps, distance, merge=knobs.weight_view == "merged")


def prefetching(rank: RankView, fetch: Fetch, steps: Sequence[int], distance: int, merge: bool) -> Iterator[Op]:
    """Compute layer after layer, fetching each MoE layer's experts `distance` MoE layers ahead.

    A fetch waits for its slot's last reader, and, when the distance is shorter than the slots allow, for the moment
    the experts `distance` layers earlier could start (distance 0: no overlap). Without `cross_step`, the first fetches
    of a step also wait for the last experts of the step before.
    """
    knobs = rank.knobs
    slots = knobs.slots
    occasions = [(step, layer) for step in steps for layer in rank.moe_layers]
    per_step = len(rank.moe_layers)

    def fetch_for(number: int, *more_waits: str) -> Op:
        """The fetch for the number-th MoE layer of the whole run."""
        step, layer = occasions[number]
        slot = number % slots
        waits = {f"consumed {slot}"} if number >= slots else set()
        if number % per_step < distance and number >= per_step and not knobs.cross_step:
            waits.add(f"consumed {(number // per_step * per_step - 1) % slots}")
        return fetch(step, layer, slot, tuple(sorted(waits.union(more_waits))), f"pulled {slot}")

    number = 0
    for step in steps:
        horizon = len(occasions) if knobs.cross_step else number + per_step
        if number == 0 or not knobs.cross_step:
            for first in range(number, min(number + distance, horizon)):
                yield fetch_for(first)
        for layer in rank.layers:
            yield rank.attention(step, layer)
            if layer not in rank.moe_layers:
                yield rank.dense(step, layer)
                continue
            ahead = number + distance
            yield rank.route(step, layer, signals="routed")
            if distance < slots and ahead < horizon:
                yield fetch_for(ahead, "routed")
            slot = number % slots
            if merge:
                yield rank.merge(step, layer, slot)
            yield rank.experts(step, layer, (f"pulled {slot}",), f"consumed {slot}", slot)
            if distance == slots and ahead < horizon:
                yield fetch_for(ahead)
            number += 1
