"""`dwdp-lab bench copies`: how fast ranks copy each other's memory."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console

from dwdp_lab.cli.transfer_options import (
    Drawn,
    add_transfer_options,
    check_transfer_options,
    command_of,
    cut_of,
    evict_option,
    run_bench,
    show_head,
    size_option,
    table_of,
)
from dwdp_lab.timeline.words import size

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "copies",
        help="copies between ranks: by size, in slices, both ways, many readers, peer orders",
        description="Measure copies between ranks: random data, medians of repeats in random order, every byte that "
        "arrived checked. Between GPUs copies go by copy engine; they start at a gate on the device.",
    )
    add_transfer_options(parser, ranks=2, repeats=7)
    parser.add_argument("--largest", default="1GiB", metavar="SIZE", help="largest single copy (1GiB)")
    parser.add_argument(
        "--share", default="256MiB", metavar="SIZE", help="what is sliced, or pulled from each peer (256MiB)"
    )
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Measure what the options ask for. Returns the exit status."""
    largest = size_option("--largest", options.largest, 64 << 10, 64 << 30)
    share = size_option("--share", options.share, 64 << 10, 64 << 30)
    evict = evict_option(options)
    check_transfer_options(options)
    from dwdp_lab.measure.transfers.copies import bench_copies
    from dwdp_lab.measure.transfers.copies_cases import CopyOptions

    chosen = CopyOptions(largest, share, options.repeats, options.seed, evict)
    command = command_of("copies", options, largest=largest, share=share)
    return run_bench(
        options,
        lambda ranks, progress: bench_copies(ranks, options.machine, chosen, command, progress),
        show,
        draw,
    )


def draw(record: dict[str, Any]) -> Mapping[str, Drawn]:
    """The pictures of a record by name."""
    from dwdp_lab.view.charts.measured_copies import copy_rates, slice_rates

    return {"copy-rates": copy_rates(record), "slice-rates": slice_rates(record)}


def show(console: Console, record: dict[str, Any]) -> None:
    """The record as tables."""
    show_head(console, record)
    local = record["within_a_rank"]
    one = table_of(
        "one copy, GB/s", "size", "from a peer", "spread (tenths)", *(f"within a rank, {way}" for way in local)
    )
    for row, nbytes in enumerate(record["one_copy"]["bytes"]):
        columns = record["one_copy"]
        low, high = (nbytes / columns[name][row] / 1e3 for name in ("high_us", "low_us"))
        own = [f"{of['gbps'][row]:.2f}" for of in local.values()]
        one.add_row(size(nbytes), f"{columns['gbps'][row]:.2f}", f"{low:.2f} to {high:.2f}", *own)
    console.print(one)
    ways = record["sliced"]
    # on CPU ranks the host is what copies, so it cannot issue ahead
    when = {"cpu": ("", ""), "cuda": (", issued meanwhile", ", issued ahead")}[record["machine"]]
    names = [way["way"] + when[way["ahead"]] for way in ways]
    sliced = table_of(f"{size(ways[0]['total_bytes'])} in slices, GB/s", "slice", *names)
    for step in ways[0]["slice_bytes"]:
        rates = [dict(zip(way["slice_bytes"], way["gbps"], strict=True)).get(step) for way in ways]
        sliced.add_row(size(step), *("" if rate is None else f"{rate:.2f}" for rate in rates))
    console.print(sliced)
    _show_together(console, record, "")
    if "by_source_engines" in record:
        _show_together(console, record["by_source_engines"], ", copied by the source's engines")
    if record["orders"]:
        orders = table_of("all ranks pulling at once, GB/s per rank", "peer order", "slice", "GB/s")
        for order in record["orders"]:
            orders.add_row(order["order"], cut_of(order), f"{order['gbps_per_rank']:.2f}")
        console.print(orders)


def _show_together(console: Console, measured: dict[str, Any], how: str) -> None:
    """Two that read from each other, and several that read from one."""
    both = measured["both_directions"]
    console.print(f"both directions at once{how}: {both['gbps']:.2f} GB/s, {both['over_one_way']:.2f} x one way")
    readers = table_of(f"readers of one source{how}", "readers", "GB/s together", "GB/s each", "fairness")
    for row_of in measured["readers"]:
        each = ", ".join(f"{rate:.2f}" for rate in row_of["gbps_each"])
        readers.add_row(str(row_of["readers"]), f"{row_of['gbps']:.2f}", each, f"{row_of['fairness']:.3f}")
    console.print(readers)
