"""`dwdp-lab bench contention`: many readers on one source, and what slices and peer orders do about it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args

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
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.strategy import PeerOrder

if TYPE_CHECKING:
    from argparse import _SubParsersAction

SLICES_AT_MOST = 16384
"""Of a share: each is a line in the plan of every rank."""
ORDERS: tuple[PeerOrder, ...] = get_args(PeerOrder)


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `dwdp-lab bench`."""
    parser = commands.add_parser(
        "contention",
        help="many readers on one source: rates, fairness, slices, orders, how often ranks meet",
        description="Measure contention: 1 to N - 1 readers of one source, then all ranks pulling a layer at once, "
        "in phase and at random phases; who reads whom when, beside the closed forms and the simulator.",
    )
    add_transfer_options(parser, ranks=4, repeats=5)
    parser.add_argument("--share", default="48MiB", metavar="SIZE", help="what a rank pulls from each peer (48MiB)")
    parser.add_argument(
        "--slices",
        metavar="A,B",
        help="slice sizes; none pulls a peer's share of a parameter at once (of none, 256KiB, 1MiB, 2MiB, 4MiB and "
        "16MiB those that the share can be cut into)",
    )
    parser.add_argument("--orders", default=",".join(ORDERS), metavar="A,B", help="peer orders (all)")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Measure what the options ask for. Returns the exit status."""
    share = size_option("--share", options.share, 6 << 10, 64 << 30)
    slices = _slices(options.slices, share)
    orders = tuple(dict.fromkeys(_order(text) for text in options.orders.split(",")))
    evict = evict_option(options)
    check_transfer_options(options)
    from dwdp_lab.measure.transfers.contention import bench_contention
    from dwdp_lab.measure.transfers.contention_cases import ContentionOptions

    chosen = ContentionOptions(share, slices, orders, options.repeats, options.seed, evict)
    cuts = ",".join("none" if step is None else str(step) for step in slices)
    command = command_of("contention", options, share=share, slices=cuts, orders=",".join(orders))
    return run_bench(
        options,
        lambda ranks, progress: bench_contention(ranks, options.machine, chosen, command, progress),
        show,
        draw,
    )


def _slices(text: str | None, share: int) -> tuple[int | None, ...]:
    """What is asked for; None: of the usual slices those that the share can be cut into."""
    least = max(1024, share // SLICES_AT_MOST)
    if text is None:
        from dwdp_lab.measure.transfers.contention_cases import SLICES

        return tuple(step for step in SLICES if step is None or least <= step <= share)
    words = (word.strip() for word in text.split(","))
    found = (None if word.lower() == "none" else size_option("--slices", word, least, share) for word in words)
    return tuple(dict.fromkeys(found))


def _order(text: str) -> PeerOrder:
    for known in ORDERS:
        if known == text.strip():
            return known
    raise ScenarioError("--orders", text, f"known are {', '.join(ORDERS)}", nearest(text, ORDERS))


def draw(record: dict[str, Any]) -> Mapping[str, Drawn]:
    """The pictures of a record by name."""
    from dwdp_lab.view.charts.measured_contention import level_shares_chart, pull_rates, reader_fairness, reader_rates

    found: dict[str, Drawn] = {
        "reader-rates": reader_rates(record),
        "reader-fairness": reader_fairness(record),
        "pull-rates-together": pull_rates(record, "together"),
        "pull-rates-random": pull_rates(record, "random"),
    }
    for one in record["levels"]:
        if one["measured"]:
            case = one["order"], one["slice_bytes"], one["phases"]
            name = "-".join(("levels", one["order"], cut_of(one), one["phases"])).replace(" ", "-").lower()
            found[name] = level_shares_chart(record, *case)
    return found


def show(console: Console, record: dict[str, Any]) -> None:
    """The record as tables."""
    show_head(console, record)
    readers = table_of("readers of one source", "slice", "readers", "GB/s together", "GB/s each", "fairness")
    for row in record["readers"]:
        each = ", ".join(f"{rate:.2f}" for rate in row["gbps_each"])
        cells = cut_of(row), str(row["readers"]), f"{row['gbps']:.2f}", each, f"{row['fairness']:.3f}"
        readers.add_row(*cells)
    console.print(readers)
    title = "all ranks pulling at once, GB/s per rank"
    pulls = table_of(title, "peer order", "slice", "phases", "measured", "sim., 1 in flight", "sim., many", "fairness")
    for row in record["pulls"]:
        simulated = [row["simulated_gbps"].get(name) for name in ("slices", "stages")]
        rates = ["" if rate is None else f"{rate:.2f}" for rate in (row["gbps"], *simulated)]
        pulls.add_row(row["order"], cut_of(row), row["phases"], *rates, f"{row['fairness']:.3f}")
    console.print(pulls)
    title = "share of reading time with 1, 2, ... readers on the source, %"
    levels = table_of(title, "peer order", "slice", "phases", "measured", "simulated")
    for row in record["levels"]:
        levels.add_row(row["order"], cut_of(row), row["phases"], _percent(row["measured"]), _percent(row["simulated"]))
    for name, shares in record["closed_forms"].items():
        levels.add_row(f"closed form, {name}", "", "", _percent(shares), "")
    console.print(levels)


def _percent(shares: list[float] | None) -> str:
    return "-" if shares is None else " ".join(f"{100 * share:.1f}" for share in shares)
