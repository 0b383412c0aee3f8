"""One knob swept over the simulator: where DWDP begins to win, and what imbalance costs each strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.scenario.workload import MAX_CV
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import Metrics, metrics
from dwdp_lab.timeline.palette import STRATEGY_NAMES
from dwdp_lab.view.charts.chart import STRATEGY_COLOURS, Chart, Curve
from dwdp_lab.view.charts.heat_map import HeatMap
from dwdp_lab.view.imbalance_panel import with_cv

Progress = Callable[[float], None]
"""Called with the share of a sweep that is done, 0 to 1."""

STRATEGIES: tuple[StrategyName, ...] = ("dep", "dwdp", "replicated")
SAME = 1e-6
"""A gain nearer to 1 is none: a rank alone does the same under all strategies, but for rounding."""
TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
CVS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)


def crossover(scenario: Scenario, tokens: Sequence[int] = TOKENS, progress: Progress | None = None) -> Chart:
    """Step time over tokens per rank, and the tokens at which DWDP overtakes DEP; the CV is the scenario's."""
    results = list(_sweep([with_tokens(scenario, n) for n in tokens], STRATEGIES, progress))
    curves = _curves(results, tuple(map(float, tokens)), lambda m: m.step_ms)
    gains = [result["dwdp"].tokens_per_s / result["dep"].tokens_per_s for result in results]
    crossing = crossing_point(tokens, gains)
    if crossing is None:
        same = all(abs(gain - 1) < SAME for gain in gains)
        slower = "as fast as" if same else "faster than" if gains[0] > 1 else "slower than"
        words = f"From {tokens[0]:,} to {tokens[-1]:,} tokens per rank DWDP is {slower} DEP."
    else:
        words = f"DWDP is faster than DEP from about {crossing:,.0f} tokens per rank on."
    best = max(gains)
    words += f" At best it is {best:.2f} x, at {tokens[gains.index(best)]:,} tokens."
    return Chart(
        title="Crossover: step time over tokens per rank",
        x_title="new tokens per rank and step (tokens)",
        y_title="step time (ms)",
        curves=curves,
        log_x=True,
        log_y=True,
        words=words,
        notes=_worth(scenario),
    )


def step_time_over_cv(scenario: Scenario, cvs: Sequence[float] = CVS, progress: Progress | None = None) -> Chart:
    """Step time over the CV of the tokens per rank, at the scenario's mean."""
    results = list(_sweep([with_cv(scenario, cv) for cv in cvs], STRATEGIES, progress))
    curves = _curves(results, tuple(cvs), lambda m: m.step_ms)
    grown = [100 * (results[-1][name].step_ms / results[0][name].step_ms - 1) for name in ("dep", "dwdp")]
    dep, dwdp = results[-1]["dep"], results[-1]["dwdp"]
    return Chart(
        title="Step time over imbalance",
        x_title="CV of tokens per rank (standard deviation over mean)",
        y_title="step time, mean over ranks (ms)",
        curves=curves,
        words=f"From CV {cvs[0]:g} to {cvs[-1]:g} DEP's step grows by {grown[0]:.1f} % (its ranks then wait for "
        f"{dep.wait_pct:.1f} % of it), DWDP's by {grown[1]:.1f} % (exposed copy: "
        f"{dwdp.share(dwdp.exposed_copy_ms):.1f} %).",
        notes=_worth(scenario),
    )


def speed_up_map(
    scenario: Scenario,
    tokens: Sequence[int] = (1024, 2048, 4096, 8192, 16384, 32768, 65536),
    cvs: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
    progress: Progress | None = None,
) -> HeatMap:
    """DWDP's tokens/s per rank over DEP's, for tokens per rank and CV."""
    grid = [with_cv(with_tokens(scenario, n), cv) for cv in cvs for n in tokens]
    gains = [r["dwdp"].tokens_per_s / r["dep"].tokens_per_s for r in _sweep(grid, ("dep", "dwdp"), progress)]
    rows = tuple(tuple(gains[row * len(tokens) : (row + 1) * len(tokens)]) for row in range(len(cvs)))
    best = max(gains)
    place = gains.index(best)
    return HeatMap(
        title="DWDP over DEP: tokens/s per rank",
        x_title="new tokens per rank and step (tokens)",
        y_title="CV of tokens per rank",
        columns=tuple(f"{n:,}" for n in tokens),
        rows=tuple(f"{cv:g}" for cv in cvs),
        values=rows,
        words=f"Above 1 (blue) DWDP is faster, below (orange) DEP: from {min(gains):.2f} x to {best:.2f} x, at "
        f"{tokens[place % len(tokens)]:,} tokens and CV {cvs[place // len(tokens)]:g}.",
        notes=_worth(scenario),
    )


def with_tokens(scenario: Scenario, tokens: int) -> Scenario:
    """The scenario with so many tokens per rank on average, and its own CV; prompts are no longer than that."""
    workload = scenario.workload
    cv = workload.cv if workload.kind == "cv" else min(MAX_CV, scenario.batches.mean_cv())
    spread = with_cv(scenario, cv)
    isl = spread.to_dict()["workload"]["isl_tokens"]
    return spread.replace(**{"workload.tokens_per_rank": tokens, "workload.isl_tokens": min(isl, tokens)})


def crossing_point(x: Sequence[float], gains: Sequence[float]) -> float | None:
    """Where gains last rise through 1, interpolated between logarithms; None when they do not."""
    found = None
    for (x1, g1), (x2, g2) in pairwise(zip(x, gains, strict=True)):
        if g1 < 1 <= g2:
            share = -math.log(g1) / (math.log(g2) - math.log(g1))
            found = math.exp(math.log(x1) + share * (math.log(x2) - math.log(x1)))
    return found


def _sweep(
    scenarios: Sequence[Scenario], strategies: Sequence[StrategyName], progress: Progress | None
) -> Iterator[dict[StrategyName, Metrics]]:
    for number, scenario in enumerate(scenarios):
        yield {name: metrics(run_sim(scenario.with_strategy(name))) for name in strategies}
        if progress is not None:
            progress((number + 1) / len(scenarios))


def _curves(
    results: Sequence[dict[StrategyName, Metrics]], x: tuple[float, ...], read: Callable[[Metrics], float]
) -> tuple[Curve, ...]:
    return tuple(
        Curve(
            STRATEGY_NAMES.get(name, name),
            x,
            tuple(read(result[name]) for result in results),
            STRATEGY_COLOURS[name],
            dashed=name == "replicated",
        )
        for name in results[0]
    )


def _worth(scenario: Scenario) -> tuple[str, ...]:
    model = scenario.model
    notes = run_sim(scenario).notes
    return ("simulated", *notes, f"{model.name}, {model.layers} layers, N {scenario.ranks}, L {scenario.local_experts}")
