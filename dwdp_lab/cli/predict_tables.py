"""What `dwdp-lab predict` prints: one table per question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dwdp_lab.cli.output import short

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
    waits = ("exchange", "exposed copy", "wait on peers")
    columns = ("strategy", "step ms", "tokens/s per GPU", *waits, "bound", "memory GB")
    table = _table("milliseconds per step, mean over ranks", columns)
    table.columns[0].justify = "left"
    for name, figures in prediction.strategies.items():
        table.add_row(
            name,
            short(figures.step_ms),
            f"{figures.tokens_per_s_per_gpu:,.0f}",
            short(figures.communication_ms),
            short(figures.exposed_copy_ms),
            short(figures.wait_on_peers_ms),
            figures.bound,
            _gb(prediction.memory[name].total / 1e9),
        )
    return table


def groups(prediction: Prediction) -> Table:
    """DEP and DWDP over the size of the group."""
    columns = ("N", "nodes", "DEP tokens/s per GPU", "DWDP", "DWDP / DEP", "exposed copy ms", "DWDP memory GB", "fits")
    table = _table("over the ranks of a group, order and slices as given, two steps each", columns)
    for row in prediction.over_ranks:
        table.add_row(
            str(row.ranks),
            str(row.nodes),
            f"{row.dep_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_over_dep:.3f}",
            short(row.dwdp_exposed_copy_ms),
            _gb(row.dwdp_memory_gb),
            "yes" if row.fits else "no",
        )
    return table


def tried(prediction: Prediction) -> Table:
    """The settings that the search went through."""
    columns = ("L", "P", "order", "slices", "step ms", "exposed copy", "memory GB", "fits")
    table = _table("settings of DWDP: orders and slices, experts kept against memory, two steps each", columns)
    for one in prediction.best.tried:
        table.add_row(
            str(one.local_experts),
            f"{one.pulled_per_peer:.4g}",
            *((one.peer_order, _slices(one.slice_bytes)) if one.pulled_per_peer else ("-", "-")),
            short(one.step_ms),
            short(one.exposed_copy_ms),
            _gb(one.memory_gb),
            "yes" if one.fits else "no",
        )
    return table


def _gb(gigabytes: float) -> str:
    return f"{gigabytes:.0f}" if gigabytes >= 10 else f"{gigabytes:.2g}"


def _count(number: int) -> str:
    """`671 billion`, `221,400`."""
    for size, word in ((10**9, "billion"), (10**6, "million")):
        if number >= size:
            return f"{number / size:,.4g} {word}"
    return f"{number:,}"


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
        times = (short(value) for value in (row.all_ms, row.routed_ms, row.dep_ms))
        table.add_row(f"{row.tokens:,}", f"{row.pulled_share:.3f}", *times, row.best)
    return table


def say_scenario(say: Any, prediction: Prediction) -> None:
    """What was read of the model and the workload: a wrong config shows here, beside the model's card."""
    model, batches = prediction.scenario.model, prediction.scenario.batches
    dense = f" ({model.dense_layers} of them dense)" if model.dense_layers else ""
    shared = f" and {model.shared_experts} shared" if model.shared_experts else ""
    rest = f"attention and dense MLPs in {model.dense_dtype}, activations" if model.dense_dtype else "the rest"
    say(
        f"{model.name}: {_count(model.params)} parameters, {model.layers} layers{dense}, {model.experts} "
        f"experts{shared} in {model.expert_dtype}, {model.top_k} a token; {rest} in {model.dtype}"
    )
    passes = [batch for by_step in batches.by_rank for batch in by_step]
    tokens = sum(batches.tokens(rank) for rank in range(batches.ranks))
    requests = len({chunk.request for batch in passes for chunk in batch})
    say(
        f"N = {batches.ranks} on {prediction.hardware.name}; a rank's pass has {tokens / len(passes):,.0f} tokens on "
        f"average (CV of the ranks {batches.mean_cv():.2f}), a request {tokens / requests:,.0f}"
    )


def say_best(say: Any, prediction: Prediction) -> None:
    """What follows from the tables, in words, and where the numbers come from."""
    from dwdp_lab.simulate.crossover import FEWEST

    best = prediction.best
    found = "best found" if best.fits else "does not fit; best found in as much memory"
    slices = "no slices" if best.slice_bytes is None else f"slices of {_slices(best.slice_bytes)}"
    pulls = f"{best.peer_order} order, {slices}" if best.pulled_per_peer else "nothing to pull"
    crossover = prediction.crossover_tokens
    say(f"DWDP / DEP: {prediction.dwdp_over_dep:.3f} tokens per GPU")
    if prediction.scenario.ranks == 1:
        say("one rank has no peers: nothing moves, whatever the strategy")
    else:
        fewer = ", perhaps fewer" if crossover == FEWEST else ""
        tokens = (
            "no number of tokens that was tried" if crossover is None else f"{crossover:,} tokens per rank and pass"
        )
        say(f"DWDP pays from {tokens}{fewer}")
    say(
        f"{found}: L = {best.local_experts}, P = {best.pulled_per_peer:.4g}, {pulls}: "
        f"{short(best.step_ms)} ms a step, {short(best.given_ms)} as given"
    )
    say(f"[bold]{prediction.advice}[/bold]")
    for what, source in prediction.provenance.items():
        say(f"  {what}: {source}", style="dim")
