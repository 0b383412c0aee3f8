"""What `dwdp-lab predict` prints: one table per question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from dwdp_lab.simulate.predict import Prediction
    from dwdp_lab.simulate.routed_pulls import SmallBatch
    from dwdp_lab.simulate.waves import LinkShares


def _table(title: str, columns: Iterable[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def strategies(prediction: Prediction) -> Table:
    """Every strategy's step."""
    columns = ("strategy", "step ms", "tokens/s per GPU", "exposed copy", "wait on peers", "bound", "memory GB")
    table = _table("milliseconds per step, mean over ranks", columns)
    table.columns[0].justify = "left"
    for name, figures in prediction.strategies.items():
        table.add_row(
            name,
            f"{figures.step_ms:.4g}",
            f"{figures.tokens_per_s_per_gpu:,.0f}",
            f"{figures.exposed_copy_ms:.4g}",
            f"{figures.wait_on_peers_ms:.4g}",
            figures.bound,
            f"{prediction.memory[name].total / 1e9:.0f}",
        )
    return table


def groups(prediction: Prediction) -> Table:
    """DEP and DWDP over the size of the group."""
    columns = ("N", "nodes", "DEP tokens/s per GPU", "DWDP", "DWDP / DEP", "exposed copy ms", "DWDP memory GB", "fits")
    table = _table("over the ranks of a group", columns)
    for row in prediction.over_ranks:
        table.add_row(
            str(row.ranks),
            str(row.nodes),
            f"{row.dep_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_over_dep:.3f}",
            f"{row.dwdp_exposed_copy_ms:.4g}",
            f"{row.dwdp_memory_gb:.0f}",
            "yes" if row.fits else "no",
        )
    return table


def tried(prediction: Prediction) -> Table:
    """The settings that the search went through."""
    columns = ("L", "P", "order", "slices", "step ms", "exposed copy", "memory GB", "fits")
    table = _table("settings of DWDP: orders and slices, experts kept against memory", columns)
    for one in prediction.best.tried:
        table.add_row(
            str(one.local_experts),
            f"{one.pulled_per_peer:.4g}",
            one.peer_order,
            _slices(one.slice_bytes),
            f"{one.step_ms:.4g}",
            f"{one.exposed_copy_ms:.4g}",
            f"{one.memory_gb:.0f}",
            "yes" if one.fits else "no",
        )
    return table


def _slices(slice_bytes: int | None) -> str:
    return "none" if slice_bytes is None else f"{slice_bytes / 2**20:g} MiB"


def waves(shares: Sequence[LinkShares], in_flight: int) -> Table:
    """What each order reaches of the links."""
    title = f"share of the links' rate that pulls reach, {in_flight} slices in flight, nothing else simulated"
    table = _table(title, ("order", "slices per peer", "in phase", "out of phase"))
    for one in shares:
        slices = str(one.slices_per_peer) if one.slices_per_peer > 1 else "none"
        table.add_row(one.peer_order, slices, f"{one.in_phase:.3f}", f"{one.out_of_phase:.3f}")
    return table


def small_batches(rows: Sequence[SmallBatch]) -> Table:
    """Pulls of all experts beside pulls of routed ones."""
    columns = ("tokens per rank", "routed / all bytes", "DWDP, all", "DWDP, routed", "DEP", "best")
    table = _table("small batches: milliseconds per step", columns)
    for row in rows:
        times = (f"{value:.4g}" for value in (row.all_ms, row.routed_ms, row.dep_ms))
        table.add_row(f"{row.tokens:,}", f"{row.pulled_share:.3f}", *times, row.best)
    return table


def say_best(say: Any, prediction: Prediction) -> None:
    """What follows from the tables, in words, and where the numbers come from."""
    best = prediction.best
    slices = "no slices" if best.slice_bytes is None else f"slices of {_slices(best.slice_bytes)}"
    crossover = prediction.crossover_tokens
    say(f"DWDP / DEP: {prediction.dwdp_over_dep:.3f} tokens per GPU")
    say(
        "DWDP pays from "
        + ("no number of tokens that was tried" if crossover is None else f"{crossover:,} tokens per rank and pass")
    )
    say(
        f"best found: L = {best.local_experts}, P = {best.pulled_per_peer:g}, {best.peer_order} order, {slices}: "
        f"{best.step_ms:.4g} ms a step, {best.given_ms:.4g} as given"
    )
    say(f"[bold]{prediction.advice}[/bold]")
    for what, source in prediction.provenance.items():
        say(f"  {what}: {source}", style="dim")
