"""One right answer to each schedule that the lesson asks for."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.program.operation import Op
from dwdp_lab.program.rank_view import RankView


def one_slot(rank: RankView) -> Iterator[Op]:
    used = False
    for step in rank.busy_steps:
        for layer in rank.layers:
            # issued first, so it runs beside attention; but not before the last experts have read the slot
            yield rank.pull(step, layer, 0, waits=("consumed",) if used else (), signals="pulled")
            used = True
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer, waits=("pulled",), signals="consumed", slot=0)


def two_slots(rank: RankView) -> Iterator[Op]:
    slots = rank.knobs.slots

    def pull(step: int, layer: int) -> Op:
        slot = layer % slots
        used = step != rank.busy_steps[0] or layer >= slots
        return rank.pull(step, layer, slot, (f"consumed {slot}",) if used else (), f"pulled {slot}")

    for step in rank.busy_steps:
        for layer in rank.layers[:slots]:
            yield pull(step, layer)
        for layer in rank.layers:
            slot = layer % slots
            yield rank.attention(step, layer)
            yield rank.route(step, layer)
            yield rank.experts(step, layer, (f"pulled {slot}",), f"consumed {slot}", slot)
            if layer + slots in rank.layers:
                yield pull(step, layer + slots)  # this layer's slot is the one that becomes free


def all_steps(rank: RankView) -> Iterator[Op]:
    slots = rank.knobs.slots
    places = [(step, layer) for step in rank.busy_steps for layer in rank.layers]

    def pull(number: int) -> Op:
        slot = number % slots  # counted through all steps: neighbours never share a slot
        return rank.pull(*places[number], slot, (f"consumed {slot}",) if number >= slots else (), f"pulled {slot}")

    for number in range(min(slots, len(places))):
        yield pull(number)
    for number, (step, layer) in enumerate(places):
        slot = number % slots
        yield rank.attention(step, layer)
        yield rank.route(step, layer)
        yield rank.experts(step, layer, (f"pulled {slot}",), f"consumed {slot}", slot)
        if number + slots < len(places):
            yield pull(number + slots)
