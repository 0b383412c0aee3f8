"""In which order to visit the peers: the exercise, and what an order does when all ranks start together."""

from __future__ import annotations

from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.teach import contention_answers as answers
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.reading import Copy, planned, read_all, slowdowns
from dwdp_lab.teach.reading_picture import reading_picture
from dwdp_lab.teach.shown import Shown, table

SHARE_BYTES = 300e6
"""About what a rank of four gives of a layer of Qwen3-30B-A3B: the scale of the pictures."""
PICTURED = 4


def _orders(answer: Any, ranks: int) -> list[list[int]] | str:
    """Every rank's order, or what is wrong with the first that is none."""
    found = []
    for rank in range(ranks):
        called = attempt(answer, (rank, ranks))
        peers = [peer for peer in range(ranks) if peer != rank]
        if called.error:
            return f"peer_order({rank}, {ranks}) {called.error}"
        try:
            order = [int(peer) for peer in called.value]
        except (TypeError, ValueError):
            return f"peer_order({rank}, {ranks}) gives {shown(called.value)}, which is no list of ranks."
        if sorted(order) != peers:
            return f"peer_order({rank}, {ranks}) gives {order}; rank {rank}'s peers are {peers}, each of them once."
        found.append(order)
    return found


def _every_peer_once(answer: Any) -> str | None:
    for ranks in range(2, 9):
        orders = _orders(answer, ranks)
        if isinstance(orders, str):
            return orders
    return None


def _nobody_meets(answer: Any) -> str | None:
    for ranks in range(2, 17):
        orders = _orders(answer, ranks)
        if isinstance(orders, str):
            return orders
        for place in range(ranks - 1):
            sources = [order[place] for order in orders]
            for rank, source in enumerate(sources):
                if source in sources[:rank]:
                    other = sources.index(source)
                    where = f"number {place + 1} of {ranks - 1}"
                    return f"{ranks} ranks: as {where}, ranks {other} and {rank} both read from rank {source}."
    return None


def _show(answer: Any) -> Shown:
    orders = _orders(answer, PICTURED)
    if isinstance(orders, str):
        return Shown(orders)
    rows = [(f"rank {rank}", "  ".join(map(str, order))) for rank, order in enumerate(orders)]
    copies = [[Copy(peer, SHARE_BYTES) for peer in order] for order in orders]
    gbps = load_hardware("h100").link_gbps.value
    readings = read_all(copies, gbps)
    worst = max(slowdowns(readings, copies, gbps))
    words = f"All start together. The slowest pull takes {worst:.2f} times as long as alone."
    picture = reading_picture(readings, f"Your order, {PICTURED} ranks, shares of {SHARE_BYTES / 1e6:.0f} MB", words)
    return Shown(table(("", "your peer_order"), rows), picture)


PEER_ORDER = Exercise(
    key="contention.peer_order",
    number="7.1",
    title="whom to read first",
    difficulty=1,
    minutes=5,
    name="peer_order",
    spec="""\
Every rank pulls an equal share from each of its peers, one peer after the other, and all ranks start at the same
moment. Write `peer_order(rank, ranks)`: the peers of a rank in the order in which it should visit them, such that no
two ranks ever read from one source at once. It has to work for any number of ranks.""",
    stub='''\
def peer_order(rank: int, ranks: int) -> list[int]:
    """All other ranks, in the order in which this one pulls from them."""''',
    hints=(
        "With the ascending order ranks 1, 2 and 3 all begin at rank 0. Where would each rank have to begin?",
        "Let rank r begin at r + 1. Which is then the next that nobody else reads from?",
        "The k-th peer is (rank + k) % ranks, for k from 1 to ranks - 1.",
    ),
    reference=answers.peer_order,
    view=_show,
    example=lambda: (0, 2),
    properties=(
        Property("every peer once", _every_peer_once),
        Property("no two ranks read from one source at once", _nobody_meets),
    ),
)


def slowest_when_together(scenario: Scenario) -> float:
    """How many times as long as alone the slowest rank's pull takes when all start together."""
    copies, gbps = planned(scenario), load_hardware(scenario.hardware).link_gbps.value
    return max(slowdowns(read_all(copies, gbps), copies, gbps))
