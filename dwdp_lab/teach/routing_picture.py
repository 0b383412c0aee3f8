"""Which experts each token of a batch visits, and which the batch visits together."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.timeline.palette import BLUE, GREEN
from dwdp_lab.view.charts.svg_parts import GRID, MUTED, document, rectangle, text
from dwdp_lab.view.picture import Picture

CELL, ROW, LEFT, TOP, GAP = 56.0, 16.0, 150.0, 76.0, 22.0
OWNERS_APART = 14.0


def routing_picture(ids: Sequence[Sequence[int]], experts: int, ranks: int) -> Picture:
    """`ids[token]` are the experts of each token, one row per token; the last row is the batch.

    Columns are experts, in groups of the rank that keeps them (`ranks` divides `experts`).
    Raises ValueError for an expert that does not exist, or experts that cannot be shared out equally.
    """
    if experts % ranks:
        raise ValueError(f"{experts} experts on {ranks} ranks: the picture takes equal shares")
    touched = {expert for chosen in ids for expert in chosen}
    if strange := sorted(touched - set(range(experts))):
        raise ValueError(f"expert {strange[0]} does not exist; there are 0 to {experts - 1}")
    share = experts // ranks

    def x(expert: int) -> float:
        return LEFT + expert * CELL + expert // share * OWNERS_APART

    words = f"Token 0 visits {len(set(ids[0]))} of {experts} experts; {len(ids)} tokens together visit {len(touched)}."
    parts = [text(16, 26, words, 13, weight=600)]
    for rank in range(ranks):
        middle = (x(rank * share) + x((rank + 1) * share - 1) + CELL) / 2
        parts.append(text(middle, 50, f"kept by rank {rank}", 11, MUTED, anchor="middle"))
    for expert in range(experts):
        parts.append(text(x(expert) + CELL / 2, TOP - 8, f"expert {expert}", 10.5, MUTED, anchor="middle"))
    rows = [(f"token {token}", set(chosen), BLUE) for token, chosen in enumerate(ids)]
    for number, (name, chosen, colour) in enumerate([*rows, ("the batch", touched, GREEN)]):
        y = TOP + number * ROW + (GAP - ROW if number == len(rows) else 0)
        parts.append(text(LEFT - 12, y + ROW - 4, name, 11, anchor="end", weight=600 if number == len(rows) else 400))
        for expert in range(experts):
            visited = expert in chosen
            hint = f"{name}: expert {expert}" if visited else ""
            parts.append(rectangle(x(expert) + 1, y + 1, CELL - 2, ROW - 2, colour if visited else GRID, hint))
    width, height = x(experts - 1) + CELL + 30, TOP + len(rows) * ROW + GAP + 24
    return Picture(document(round(width), height, "Routing", words, parts))
