"""`bench copies`: how fast ranks copy each other's memory, by size, in slices, in both directions, from one source."""

from __future__ import annotations

from statistics import median
from typing import Any

from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.measure.transfers.copies_cases import (
    KIB,
    CopyOptions,
    copy_cases,
    orders,
    sizes,
    slice_sizes,
    slice_ways,
)
from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.measure.transfers.source_readers import source_readers
from dwdp_lab.measure.transfers.transfers import MachineName, Way
from dwdp_lab.measure.transfers.transfers_head import head
from dwdp_lab.measure.transfers.transfers_measured import Key, Measured, gbps, measure, spread
from dwdp_lab.scenario.strategy import PeerOrder


def bench_copies(
    ranks: Ranks, name: MachineName, options: CopyOptions, command: str, progress: OnProgress | None = None
) -> dict[str, Any]:
    """Measure copies between the ranks; the record as plain values.

    Raises ScenarioError for a group of one rank or too little memory, RankFailed when a copy brought wrong bytes.
    """
    pulled_layer(ranks.size, max(options.share, 6 * KIB))  # refuses a group that cannot copy before it is started
    measured = measure(ranks, name, options, lambda machine: copy_cases(machine, options), progress)
    return copies_record(measured, options, command)


def copies_record(measured: Measured, options: CopyOptions, command: str) -> dict[str, Any]:
    """Medians of repeats as plain JSON values; times in microseconds, rates in 1e9 bytes/s."""
    machine, share = measured.machine, options.share
    by_size = sizes(options.largest)
    record = head("Copies between ranks", measured, command)
    if machine.ranks < 3:
        record["notes"].append("with two ranks there is one peer, so all peer orders are the same")
    record["one_copy"] = {
        "what": "one copy from a peer's memory, the other ranks idle",
        "bytes": by_size,
        **_columns(measured, [("one", size) for size in by_size]),
    }
    record["within_a_rank"] = {
        way: {
            "what": f"one copy from and to a rank's own memory ({_WAYS[way]}); bytes copied, each read and written",
            "bytes": by_size,
            **_columns(measured, [("local", size, way) for size in by_size]),
        }
        for way in ("plain", "kernel")
        if way in machine.ways
    }
    record["sliced"] = [one for way, ahead in slice_ways(machine, 1) if (one := _sliced(measured, way, ahead, share))]
    record |= _together(measured, "plain", share)
    if "source" in machine.ways:
        record["by_source_engines"] = {
            "what": "the same, copied by the engines of the GPU that is read from",
            **_together(measured, "source", share),
        }
    record["orders"] = [_order(measured, order, step) for order, step in orders(machine.ranks)]
    return record


def _together(measured: Measured, way: Way, share: int) -> dict[str, Any]:
    """Two that read from each other, and several that read from one."""
    one_way = spread(measured.together_us(("readers", 1, way))).median_us
    both = spread(measured.together_us(("both", way)))
    return {
        "both_directions": {
            "what": "two ranks read from each other at once, bytes of both over the time until both have ended",
            "bytes": 2 * share,
            **both._asdict(),
            "gbps": gbps(2 * share, both.median_us),
            "over_one_way": 2 * one_way / both.median_us,
        },
        "readers": [
            {"bytes_each": share, **source_readers(measured, ("readers", readers, way), share)}
            for readers in range(1, measured.machine.ranks)
        ],
    }


_WAYS = {"plain": "one call per copy", "batched": "one call for all copies", "kernel": "by a kernel"}


def _columns(measured: Measured, keys: list[Key]) -> dict[str, list[float]]:
    spreads = [spread(measured.together_us(key)) for key in keys]
    columns = {name: [getattr(one, name) for one in spreads] for name in spreads[0]._fields}
    rates = [gbps(measured.nbytes(key), one.median_us) for key, one in zip(keys, spreads, strict=True)]
    return {**columns, "gbps": rates}


def _sliced(measured: Measured, way: Way, ahead: bool, share: int) -> dict[str, Any] | None:
    """None where no slices were copied so: of a share of many GiB no slices are few enough to be issued ahead."""
    steps = [step for step in slice_sizes(share) if ("sliced", step, way, ahead) in measured.number]
    if not steps:
        return None
    keys: list[Key] = [("sliced", step, way, ahead) for step in steps]
    issuing = [median([one.issue_us for turn in measured.turns(key) for one in turn.values()]) for key in keys]
    ahead_matters = measured.machine.name == "cuda"
    when = "the host issues while copies run" if not ahead else "issued before the start"
    return {
        "what": f"a share of a peer's memory in slices, {_WAYS[way]}" + (f", {when}" if ahead_matters else ""),
        "way": way,
        "ahead": ahead,
        "total_bytes": share,
        "slice_bytes": steps,
        **_columns(measured, keys),
        # on CPU ranks the host's time is the copy's own; ahead of the start a full queue may hold the host up
        "issue_us": None if ahead else issuing,
    }


def _order(measured: Measured, order: PeerOrder, step: int | None) -> dict[str, Any]:
    key: Key = ("order", order, step)
    together = spread(measured.together_us(key))
    return {
        "order": order,
        "slice_bytes": step,
        "bytes": measured.nbytes(key),
        **together._asdict(),
        "gbps_per_rank": gbps(measured.nbytes(key) / measured.machine.ranks, together.median_us),
    }
