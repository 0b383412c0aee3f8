"""The roofline with the scenario's operations on it, and the link's roof that decides whether pulls are hidden."""

from __future__ import annotations

from collections import defaultdict

from dwdp_lab.program.build import build
from dwdp_lab.scenario.precision import computed_in
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.palette import INK, PURPLE, VERMILLION, strategy_name, style
from dwdp_lab.timeline.segments import COPY_KINDS, TOKEN_KINDS
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.charts.chart import Chart, Curve


def roofline(scenario: Scenario) -> Chart:
    """FLOP/s over FLOP per byte: computation under the memory's roof, a rank's whole step under the link's.

    A rank whose step lies above the link's roof cannot hide what it moves: at the speed it computes, its bytes take
    longer than its FLOPs (arXiv 2604.01621, section 3: T_compute / T_prefetch < 1).
    """
    run, hardware = run_sim(scenario), load_hardware(scenario.hardware)
    link_gbps = scenario.link_gbps or hardware.link_gbps.value
    points = _operations(scenario, run)
    step = _step(run)
    peak = peak_tflops(hardware, scenario)
    every = [x for x, _, _, _ in points] + ([step[0]] if step else [])
    low = min([*every, 1e3 * peak / hardware.hbm_gbps.value]) / 10
    high = max([*every, 1e3 * peak / min(link_gbps, 1e9)]) * 4
    curves = [_roof("memory", hardware.hbm_gbps.value, peak, low, high, INK)]
    if step and link_gbps < 1e9:
        curves.append(_roof("link", link_gbps, peak, low, high, PURPLE, dashed=True))
    curves += [Curve("", (x,), (y,), colour, line=False, labels=(label,)) for x, y, label, colour in points]
    if step:
        curves.append(Curve("", (step[0],), (step[1],), VERMILLION, line=False, labels=("step against link",)))
    return Chart(
        title=f"Roofline: {hardware.title}",
        x_title="intensity (FLOP per byte)",
        y_title="speed (TFLOP/s)",
        curves=tuple(curves),
        log_x=True,
        limits=_slower_units(hardware, scenario),
        log_y=True,
        words=_words(run, step, link_gbps),
        notes=("simulated", *run.notes),
    )


def _operations(scenario: Scenario, run: Timeline) -> list[tuple[float, float, str, str]]:
    """FLOP per byte, TFLOP/s, name and colour of every kind that computes. Like the bound, it counts the bytes of
    weights, keys and values, not what fused kernels need not read and write."""
    flops: dict[str, float] = defaultdict(float)
    nbytes: dict[str, float] = defaultdict(float)
    busy_us: dict[str, float] = defaultdict(float)
    for program in build(scenario):
        for op in program.ops:
            flops[op.kind] += sum(work.flops for work in op.work)
            nbytes[op.kind] += sum(work.hbm_bytes for work in op.work if work.unit != "activations")
    for span in run.spans:
        busy_us[span.kind] += span.duration_us
    return [
        (flops[kind] / nbytes[kind], flops[kind] / busy_us[kind] / 1e6, style(kind).label, style(kind).colour)
        for kind in flops
        if flops[kind] and nbytes[kind] and busy_us[kind]
    ]


def _step(run: Timeline) -> tuple[float, float] | None:
    """FLOP per byte moved between ranks, and TFLOP/s while computing, of an average rank."""
    moved = sum(span.nbytes for span in run.spans if span.kind in COPY_KINDS | TOKEN_KINDS)
    busy_us = sum(span.duration_us for span in run.spans if span.lane == "compute")
    flops = sum(span.flops for span in run.spans)
    return (flops / moved, flops / busy_us / 1e6) if moved and busy_us else None


def _words(run: Timeline, step: tuple[float, float] | None, link_gbps: float) -> str:
    name = strategy_name(run)
    if step is None:
        return f"{name} moves nothing between ranks."
    intensity, tflops = step
    words = f"{name} computes {intensity:,.0f} FLOP per byte that it moves. "
    if not any(span.kind in COPY_KINDS for span in run.spans):
        return words + "It waits for what it moves, so the link's time adds to the step whatever the intensity."
    where = metrics(run)
    return words + (
        f"Above {1e3 * tflops / link_gbps:,.0f} an average rank could hide all of its copies; in this run "
        f"{where.share(where.exposed_copy_ms):.1f} % of the step is exposed copy."
    )


def _roof(name: str, gbps: float, peak: float, low: float, high: float, colour: str, dashed: bool = False) -> Curve:
    corner = 1e3 * peak / gbps
    label = f"{name}: {gbps:,.0f} GB/s, peak {peak:,.0f} TFLOP/s"
    x = (low, corner, high)
    return Curve(label, x, tuple(min(peak, each * gbps / 1e3) for each in x), colour, dashed, points=False)


def _slower_units(hardware: Hardware, scenario: Scenario) -> tuple[tuple[str, float], ...]:
    """Name and TFLOP/s of every further unit that the model uses: what computes there cannot reach the roof."""
    peak = peak_tflops(hardware, scenario)
    return tuple(
        (f"peak in {precision.upper()}: {hardware.tflops[precision].value:,.0f} TFLOP/s", value)
        for precision in sorted(_precisions(scenario))
        if precision in hardware.tflops and (value := hardware.tflops[precision].value) < peak
    )


def _precisions(scenario: Scenario) -> set[str]:
    return {scenario.model.dtype, computed_in(scenario.model.expert_dtype)}


def peak_tflops(hardware: Hardware, scenario: Scenario) -> float:
    """The fastest unit that the scenario's model uses, in 1e12 FLOP/s."""
    used = _precisions(scenario)
    return max(number.value for precision, number in hardware.tflops.items() if precision in used)
