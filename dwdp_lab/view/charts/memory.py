"""What a rank's memory holds under each strategy, beside what its GPU has."""

from __future__ import annotations

from typing import get_args

from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, STRATEGY_NAMES
from dwdp_lab.view.charts.chart import Bars, Chart

STRATEGIES: tuple[StrategyName, ...] = get_args(StrategyName)
PARTS = {
    "attention, router, dense layers": BLUE,
    "embeddings": SKY,
    "experts kept": GREEN,
    "staging slots": ORANGE,
    "keys and values of one step": PURPLE,
    "activations of one step": GREY,
}


def memory_bytes(scenario: Scenario, strategy: StrategyName) -> dict[str, float]:
    """Bytes per rank of each of `PARTS`, for the fullest rank (`program.memory.ledger`)."""
    held = ledger(scenario, strategy)
    sizes = (
        held.attention + held.dense,
        held.embeddings,
        held.experts,
        held.staging,
        held.keys_values,
        held.activations,
    )
    return dict(zip(PARTS, sizes, strict=True))


def memory_ledger(scenario: Scenario) -> Chart:
    """Stacked bars of `memory_bytes` for every strategy, in GB (1e9 bytes), and the memory of the scenario's GPU."""
    hardware = load_hardware(scenario.hardware)
    ledgers = [memory_bytes(scenario, name) for name in STRATEGIES]
    totals = [sum(ledger.values()) / 1e9 for ledger in ledgers]
    names = [STRATEGY_NAMES.get(name, name) for name in STRATEGIES]
    fits = [name for name, total in zip(names, totals, strict=True) if total <= hardware.memory_gb.value]
    limit = hardware.memory_gb.value
    total = dict(zip(STRATEGIES, totals, strict=True))
    words = f"DWDP holds {total['dwdp']:,.3g} GB per rank, {_than(total['replicated'] / total['dwdp'])} replicated. "
    words += f"Into the {limit:,.0f} GB of {hardware.name} fit: {', '.join(fits) or 'none'}."
    return Chart(
        title=f"Memory per rank: {scenario.model.name}, {scenario.model.layers} layers",
        x_title=f"strategy, N = {scenario.ranks}, L = {scenario.local_experts} of {scenario.model.experts} experts",
        y_title="memory (GB)",
        categories=tuple(names),
        bars=tuple(
            Bars(part, tuple(ledger[part] / 1e9 for ledger in ledgers), colour) for part, colour in PARTS.items()
        ),
        stacked=True,
        limits=((f"{hardware.name}: {limit:,.0f} GB", limit),) if limit < 3 * max(totals) else (),
        words=words,
        notes=("computed from the model's shape; framework and fragmentation not counted",),
    )


def _than(ratio: float) -> str:
    """The others' memory over DWDP's in words: with one rank, or with slots for every expert, DWDP saves nothing."""
    if f"{ratio:.1f}" == "1.0":
        return "about as much as"
    return f"{ratio:.1f} x less than" if ratio > 1 else f"{1 / ratio:.1f} x more than"
