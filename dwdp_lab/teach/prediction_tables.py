"""A prediction as plain tables, for a notebook."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.predict import Prediction
from dwdp_lab.teach.shown import Text, table

STRATEGIES: tuple[StrategyName, ...] = ("replicated", "dep", "weight_gather", "dwdp")


def strategies_table(prediction: Prediction, strategies: Sequence[StrategyName] = STRATEGIES) -> Text:
    """Step, throughput, what limits it and memory of each strategy."""
    capacity = prediction.hardware.memory_gb.value
    rows = []
    for name in strategies:
        figures, memory_gb = prediction.strategies[name], prediction.memory[name].total / 1e9
        rows.append(
            (
                name,
                f"{figures.step_ms:.1f}",
                f"{figures.tokens_per_s_per_gpu:,.0f}",
                f"{figures.communication_ms:.1f}",
                f"{figures.exposed_copy_ms:.1f}",
                f"{figures.wait_on_peers_ms:.1f}",
                figures.bound,
                f"{memory_gb:.0f} of {capacity:.0f}",
                "yes" if memory_gb <= capacity else "no",
            )
        )
    header = (
        "",
        "step ms",
        "tokens/s per GPU",
        "exchange ms",
        "exposed copy ms",
        "waiting ms",
        "bound",
        "memory GB",
        "fits",
    )
    return Text(table(header, rows))


def groups_table(prediction: Prediction) -> Text:
    """DEP and DWDP over the ranks of a group."""
    rows = [
        (
            f"N = {row.ranks}",
            f"{row.dep_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_tokens_per_s_per_gpu:,.0f}",
            f"{row.dwdp_over_dep:.2f}",
            f"{row.dwdp_memory_gb:.0f}",
            "yes" if row.fits else "no",
        )
        for row in prediction.over_ranks
    ]
    return Text(table(("", "DEP tokens/s per GPU", "DWDP", "DWDP / DEP", "DWDP memory GB", "fits"), rows))
