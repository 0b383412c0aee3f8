"""One sentence of advice from a prediction's figures."""

from __future__ import annotations

from collections.abc import Mapping

from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.search import WORTH_IT, Best

CLEAR = 0.03
"""A difference smaller than this is within what the simulator can be wrong by."""

SPOKEN: dict[StrategyName, str] = {
    "replicated": "replicated experts",
    "dep": "DEP",
    "weight_gather": "an all-gather of weights",
    "dwdp": "DWDP",
    "tensor": "tensor parallelism",
    "pipeline": "pipeline parallelism",
}


def advise(
    *,
    tokens_per_s: Mapping[StrategyName, float],
    dep_exchange: float,
    dep_wait: float,
    dwdp_exposed: float,
    crossover_tokens: int | None,
    memory_gb: Mapping[StrategyName, float],
    one_slot_gb: float,
    capacity_gb: float,
    best: Best,
) -> str:
    """What to do, why, and the one change that would help.

    `tokens_per_s` are per GPU, `memory_gb` per rank, `one_slot_gb` what DWDP needs with one staging slot;
    `dep_exchange` (of tokens), `dep_wait` and `dwdp_exposed` are shares of the step.
    """
    if memory_gb["replicated"] <= capacity_gb:
        fits = f"all of them fit into a GPU's memory ({memory_gb['replicated']:.0f} of {capacity_gb:.0f} GB)"
        fastest = max((name for name in tokens_per_s if memory_gb[name] <= capacity_gb), key=lambda n: tokens_per_s[n])
        gain = tokens_per_s[fastest] / tokens_per_s["replicated"]
        if gain < 1 + CLEAR:
            return f"Replicate the experts: {fits}, and nothing that shares them is clearly faster."
        return f"Use {SPOKEN[fastest]}: {gain:.2f} times the tokens per GPU of replicated experts, though {fits}."
    dwdp_over_dep = tokens_per_s["dwdp"] / tokens_per_s["dep"]
    if memory_gb["dwdp"] > capacity_gb:
        return _without_dwdp(tokens_per_s, memory_gb, one_slot_gb, capacity_gb)
    rival, gain = _fastest_other(tokens_per_s, memory_gb, capacity_gb)
    if rival is not None and gain >= 1 + CLEAR:
        beaten = "DWDP" if dwdp_over_dep >= 1 else "DEP"
        return f"Use {SPOKEN[rival]}: {gain:.2f} times the tokens per GPU of {beaten}, the faster of DWDP and DEP."
    if dwdp_over_dep >= 1 + CLEAR:
        why = f"DEP exchanges tokens for {100 * dep_exchange:.0f} % of its step and waits on peers for "
        why += f"{100 * dep_wait:.0f} %"
        if dwdp_exposed < 0.01:
            why += ", and the pulls are hidden"
        return f"Use DWDP: {dwdp_over_dep:.2f} times the tokens per GPU of DEP, as {why}{_better(best)}."
    needs = (
        "no pass that was tried is long enough to hide the pulls"
        if crossover_tokens is None
        else f"it pays from {crossover_tokens:,} tokens per rank and pass"
    )
    if dwdp_over_dep > 1 - CLEAR:
        return f"Either: DWDP and DEP are within {100 * CLEAR:.0f} % ({dwdp_over_dep:.2f}); {needs}{_better(best)}."
    return (
        f"Keep DEP: DWDP reaches {dwdp_over_dep:.2f} of its tokens per GPU and spends {100 * dwdp_exposed:.0f} % of "
        f"the step on copies that nothing covers; {needs}{_better(best)}."
    )


def _without_dwdp(
    tokens_per_s: Mapping[StrategyName, float],
    memory_gb: Mapping[StrategyName, float],
    one_slot_gb: float,
    capacity_gb: float,
) -> str:
    """What to do where DWDP does not fit: the fastest that does, DEP unless something else is clearly faster."""
    one_slot = f" ({one_slot_gb:.0f} with one staging slot, strategy.slots=1)" if one_slot_gb <= capacity_gb else ""
    needs = f"DWDP needs {memory_gb['dwdp']:.0f} GB per rank{one_slot} and a GPU has {capacity_gb:.0f} GB"
    fitting = [name for name in tokens_per_s if memory_gb[name] <= capacity_gb]
    if not fitting:
        return f"Use more ranks or a smaller format: {needs}."
    fastest = max(fitting, key=lambda name: tokens_per_s[name])
    use = f"Use {SPOKEN[fastest]}, the fastest that fits"
    if "dep" in fitting:
        gain = tokens_per_s[fastest] / tokens_per_s["dep"]
        use = f"{use}, {gain:.2f} times the tokens per GPU of DEP" if gain >= 1 + CLEAR else "Keep DEP"
    return f"{use}: {needs}; more ranks or a smaller format would make it fit."


def _fastest_other(
    tokens_per_s: Mapping[StrategyName, float], memory_gb: Mapping[StrategyName, float], capacity_gb: float
) -> tuple[StrategyName | None, float]:
    """The fastest strategy beside DEP and DWDP that fits, and its tokens as a multiple of the faster of these two."""
    fitting = [n for n in tokens_per_s if n not in ("dep", "dwdp", "replicated") and memory_gb[n] <= capacity_gb]
    if not fitting:
        return None, 0.0
    fastest = max(fitting, key=lambda name: tokens_per_s[name])
    return fastest, tokens_per_s[fastest] / max(tokens_per_s["dep"], tokens_per_s["dwdp"])


def _better(best: Best) -> str:
    if best.gain < 2 * WORTH_IT:
        return ""
    slices = f" in slices of {best.slice_bytes / 2**20:g} MiB" if best.slice_bytes else ""
    return (
        f"; {best.local_experts} local experts, {best.peer_order} order{slices} would make DWDP's step "
        f"{100 * best.gain:.0f} % shorter"
    )
