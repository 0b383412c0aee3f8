"""Where experts lie in the peers' shards and in a rank's slot, and what copies bring from one to the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from dwdp_lab.program.placement import Placement
from dwdp_lab.teach.stamped import Copy, Sizes, Stamp, shard, slot
from dwdp_lab.timeline.palette import BLUE, GREEN, INK, ORANGE, VERMILLION
from dwdp_lab.view.charts.svg_parts import MUTED, document, number, rectangle, text
from dwdp_lab.view.picture import Picture

BYTE, ROW, LEFT, APART = 36.0, 30.0, 24.0, 40.0
SHARDS_AT, SLOT_AT = 76.0, 208.0
COLOURS = ((BLUE, "#fff"), (ORANGE, INK))
"""Of an expert's parameters, in turn: box and letters. Experts that the rank keeps itself are grey."""
OWN = ("#C3CBD3", INK)


def layout_picture(where: Placement, rank: int, sizes: Sizes, copies: Sequence[Copy] = ()) -> Picture:
    """The shards of all peers above, the slot below; numbers are offsets in bytes. For a handful of bytes only.

    A band is a copy: green when each of its bytes comes to its place, orange when one does not. Copies that reach
    outside a shard or the slot are left out.
    """
    shards = {peer: shard(where, peer, sizes) for peer in range(where.ranks) if peer != rank}
    wanted, own = slot(where, rank, sizes), where.local(rank)
    starts, x = {}, LEFT
    for peer, stamps in shards.items():
        starts[peer] = x
        x += len(stamps) * BYTE + APART
    width = max(x - APART, LEFT + len(wanted) * BYTE) + LEFT
    parts = [text(LEFT, 26, f"What rank {rank} pulls: from its peers' shards into its slot", 13, weight=600)]
    key = "a box is one parameter of one expert; below it, its first byte"
    if any(stamp.expert in own for stamps in shards.values() for stamp in stamps):
        key += f"; grey: rank {rank} has it"
    parts.append(text(LEFT, 44, key, 11, MUTED))
    for copy in copies:
        peer, source, target, nbytes = copy
        if peer in shards and source >= 0 and target >= 0 and nbytes > 0:
            have, want = shards[peer][source : source + nbytes], wanted[target : target + nbytes]
            if len(have) == len(want) == nbytes:
                top, bottom = starts[peer] + source * BYTE, LEFT + target * BYTE
                parts.append(_band(top, bottom, nbytes * BYTE, GREEN if have == want else VERMILLION))
    for peer, stamps in shards.items():
        parts.append(text(starts[peer], SHARDS_AT - 8, f"rank {peer}'s shard", 11.5, weight=600))
        parts += _boxes(starts[peer], SHARDS_AT, stamps, sizes, own)
    parts.append(text(LEFT, SLOT_AT + ROW + 34, f"rank {rank}'s slot", 11.5, weight=600))
    parts += _boxes(LEFT, SLOT_AT, wanted, sizes, own)
    return Picture(document(width, SLOT_AT + ROW + 50, "Shards and slot", "Where the bytes of a pull lie.", parts))


def _boxes(x: float, y: float, stamps: Sequence[Stamp], sizes: Sizes, own: range) -> list[str]:
    parts, place = [], 0
    names = [name for name, _ in sizes]
    for (name, expert), run in groupby(stamps, lambda stamp: (stamp.parameter, stamp.expert)):
        length = len(list(run))
        left = x + place * BYTE
        colour, ink = OWN if expert in own else COLOURS[names.index(name) % len(COLOURS)]
        parts.append(rectangle(left + 1, y, length * BYTE - 2, ROW, colour, f"expert {expert}'s {name}"))
        middle = left + length * BYTE / 2
        parts.append(text(middle, y + 13, name, 10.5, ink, anchor="middle"))
        parts.append(text(middle, y + 26, f"e{expert}", 10.5, ink, anchor="middle", weight=600))
        parts.append(text(left + 1, y + ROW + 13, str(place), 10, MUTED))
        place += length
    return parts


def _band(top: float, bottom: float, width: float, colour: str) -> str:
    high, low = SHARDS_AT + ROW + 16, SLOT_AT
    corners = f"M{number(top + 2)} {number(high)}H{number(top + width - 2)}L{number(bottom + width - 2)} {number(low)}"
    return f'<path d="{corners}H{number(bottom + 2)}Z" fill="{colour}" fill-opacity=".35" stroke="{colour}"/>'
