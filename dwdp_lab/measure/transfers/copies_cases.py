"""What `bench copies` has ranks copy: sizes, slices, directions, readers of one source, peer orders."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.measure.transfers.transfers import Case, Way
from dwdp_lab.measure.transfers.transfers_measured import Key, Machine
from dwdp_lab.program.pull_plan import Slice, pull_plan
from dwdp_lab.scenario.strategy import PeerOrder

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALLEST = 64 * KIB
SLICES = tuple(SMALLEST << n for n in range(9))
"""64 KiB to 16 MiB."""
SLICES_AT_MOST = 16384
"""What a share is cut into."""
ORDER_SLICES = (None, 2 * MIB)
AHEAD_AT_MOST = 512
"""Copies that a stream surely takes before its first one starts; of more, some would be issued after the start."""


class CopyOptions(NamedTuple):
    """`largest` single copy and `share` that is cut into slices, read by several, or pulled in orders, in bytes."""

    largest: int = GIB
    share: int = 256 * MIB
    repeats: int = 7
    seed: int = 0
    evict_bytes: int | None = None  # None: what EVICT says

    def rank_bytes(self, ranks: int) -> int:
        """What a rank shares and receives at most."""
        return max(self.largest, self.share) + max(self.largest, (ranks - 1) * self.share)


def sizes(largest: int) -> list[int]:
    """64 KiB, four times that, and so on, and the largest."""
    found = [size for size in (SMALLEST << 2 * n for n in range(20)) if size < largest]
    return [*found, largest]


def copy_cases(machine: Machine, options: CopyOptions) -> dict[Key, Case]:
    """All that is measured. Rank 0 reads from rank 1 where one pair is enough."""
    count, share = machine.ranks, options.share
    cases: dict[Key, Case] = {}

    def add(*key: str | int | bool | None, **pulls: Any) -> None:
        cases[key] = Case(" ".join(map(str, key)), **pulls)

    def only(rank: int, *slices: Slice) -> tuple[tuple[Slice, ...], ...]:
        return tuple(slices if other == rank else () for other in range(count))

    for size in sizes(options.largest):
        add("one", size, slices=only(0, Slice(1, 0, 0, size)))
        add("local", size, "plain", slices=only(0, Slice(0, 0, 0, size)))
        if "kernel" in machine.ways:
            add("local", size, "kernel", slices=only(0, Slice(0, 0, 0, size)), way="kernel")
    for step in slice_sizes(share):
        pieces = cut(1, share, step)
        for way, ahead in slice_ways(machine, len(pieces)):
            add("sliced", step, way, ahead, slices=only(0, *pieces), way=way, ahead=ahead)
    for way in engine_ways(machine):
        swapped = tuple((Slice(1 - rank, 0, 0, share),) if rank < 2 else () for rank in range(count))
        add("both", way, slices=swapped, way=way)
        for readers in range(1, count):
            from_one = tuple((Slice(0, 0, 0, share),) if 0 < r <= readers else () for r in range(count))
            add("readers", readers, way, slices=from_one, way=way)
    for order, cut_to in orders(count):
        changes = {"strategy.peer_order": order, "strategy.slice_bytes": cut_to}
        scenario = pulled_layer(count, share).replace(**changes)
        slices = tuple(pull_plan(scenario, rank).slices for rank in range(count))
        add("order", order, cut_to, slices=slices, way=pull_way(machine, cut_to))
    return cases


def engine_ways(machine: Machine) -> list[Way]:
    """One copy by the reader's engines, and by the source's where that can be."""
    return ["plain", "source"] if "source" in machine.ways else ["plain"]


def slice_sizes(share: int) -> list[int]:
    """The slices that a share is cut into."""
    return [step for step in SLICES if step <= share <= SLICES_AT_MOST * step]


def cut(peer: int, nbytes: int, step: int) -> list[Slice]:
    """So many bytes of a peer's, in slices."""
    return [Slice(peer, done, done, min(step, nbytes - done)) for done in range(0, nbytes, step)]


def slice_ways(machine: Machine, copies: int) -> list[tuple[Way, bool]]:
    """How slices are handed over, and whether ahead of the start: on CPU ranks there is one way to copy."""
    if machine.name == "cpu":
        return [("plain", True)]
    ways: list[Way] = [way for way in machine.ways if way in ("plain", "batched")]
    return [(way, ahead) for way in ways for ahead in (False, True) if not ahead or copies <= AHEAD_AT_MOST]


def pull_way(machine: Machine, step: int | None) -> Way:
    """As the CUDA machine would: one call for many small copies, single calls for few large ones."""
    return "batched" if step is not None and "batched" in machine.ways else "plain"


def orders(ranks: int) -> list[tuple[PeerOrder, int | None]]:
    """Peer orders and slice sizes; with one peer there is only one order."""
    if ranks < 3:
        return []
    return [(order, step) for order in get_args(PeerOrder) for step in ORDER_SLICES]
