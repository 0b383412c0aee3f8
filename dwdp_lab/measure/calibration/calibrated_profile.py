"""A hardware profile from samples and what was found from them: every number with how it came about. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from statistics import median

from dwdp_lab.measure.calibration.findings import Found, Samples
from dwdp_lab.measure.calibration.fit_lasting import COOL_US, LastingFit
from dwdp_lab.measure.calibration.fit_units import OPERATIONS, Units
from dwdp_lab.measure.where import Where
from dwdp_lab.program.operation import Kind
from dwdp_lab.scenario.precision import Precision
from dwdp_lab.simulate.hardware import Calibration, Hardware
from dwdp_lab.simulate.reached import Exchange, Lasting, Number, Operation, Reached

DIGITS = 4


def calibrated_profile(
    samples: Samples, found: Found, where: Where, memory_bytes: float, sheet: Hardware | None = None, sharing: int = 1
) -> Hardware:
    """The profile of a rank of this machine, while all others are busy too; so many share its device's memory.

    Peaks are what was reached at best, so a link's share is 1; the efficiency of kernels that work in caches may be
    above 1, as the memory's rate is that of a large copy. Rates of precisions that were not measured follow from those
    of `sheet`, the shipped profile of this GPU, if there is one.
    """

    def number(value: float, how: str) -> Number:
        return Number(value=float(f"{value:.{DIGITS}g}"), source=f"measured on {where.words}: {how}")

    peaks, units, link = samples.peaks, found.units, found.pulls
    tflops = {precision: number(rate, "the best product") for precision, rate in peaks.tflops.items()}
    for precision, rate in found.rates.items():
        how = f"what explains the times of experts in it; median over {rate.samples} amounts of tokens"
        tflops[precision] = number(rate.tflops, how)
    assumed = {} if sheet is None else assumed_rates(found.peaks(samples).tflops, sheet)
    count = len(samples.of_known_rates)
    efficiency = {
        unit: number(share, f"least absolute errors over {count} operations and kernels")
        for unit, share in units.efficiency.items()
    }
    if units.activations:
        middle = median(share for name, share in units.activations.items() if name in OPERATIONS)
        efficiency["activations"] = number(middle, "median over kinds of operations, for those that were not measured")
    operations = {kind: _operation(kind, units, number) for kind in OPERATIONS}
    slowed = f"medians over {len(samples.slowed)} operations beside pulls that ran all the while"
    whole = f"{len(samples.pulls)} sizes of pulls, whole and in slices"
    exchanges = {
        kind: Exchange(
            share=number(
                line.gbps / link.gbps, f"{line.gbps:.3g} GB/s of pulls' {link.gbps:.3g}; {_sizes(samples, kind)}"
            ),
            fixed_us=number(max(line.fixed_us, 0.01), f"the line at no bytes; {_sizes(samples, kind)}"),
        )
        for kind, line in found.exchanges.items()
    }
    memory = "the device's memory" if sharing == 1 else f"a rank's part of the device's memory, which {sharing} share"
    slowest = min(exchanges.values(), key=lambda one: one.share.value) if exchanges else None
    return Hardware(
        name=f"calibrated-{where.machine}",
        title=f"{where.device}, measured with {where.ranks} ranks",
        provenance="calibrated",
        tflops=tflops | assumed,
        hbm_gbps=number(peaks.hbm_gbps, "the largest copy within a rank, bytes read plus bytes written"),
        memory_gb=number(memory_bytes / 1e9 / sharing, memory),
        link_gbps=number(link.gbps, whole),
        reached=Reached(
            efficiency=efficiency,
            half_rows=None if units.half_rows is None else number(units.half_rows, "from the same fit"),
            operations={kind: one for kind, one in operations.items() if one.fixed_us or one.activations},
            link=number(1.0, "link_gbps is what pulls reached"),
            collective=number(1.0, "no collective was measured") if slowest is None else slowest.share,
            copy_us=None if link.fixed_us <= 0.0 else number(link.fixed_us, whole),
            collective_us=None if slowest is None else slowest.fixed_us,
            exchanges=exchanges,
            copy_slowdown={unit: number(ratio, slowed) for unit, ratio in found.slowdown.items()},
            lasting=None if found.lasting is None else _lasting(found.lasting, number),
        ),
        calibration=Calibration(
            device=where.device,
            versions=where.versions,
            date=where.date,
            command=where.command,
            notes=where.notes if not assumed else (*where.notes, _assumed_note(assumed)),
        ),
    )


def _assumed_note(assumed: Iterable[Precision]) -> str:
    return f"not measured: the rates of {', '.join(assumed)}, which follow from that of bf16 by the data sheet"


def assumed_rates(measured: Mapping[Precision, float], sheet: Hardware) -> dict[Precision, Number]:
    """Of what was not measured: as many times the measured rate of bf16 as the data sheet says."""
    usual = sheet.tflops.get("bf16")
    if usual is None or "bf16" not in measured:
        return {}
    return {
        precision: Number(
            value=float(f"{measured['bf16'] * rate.value / usual.value:.{DIGITS}g}"),
            source=f"not measured: {rate.value:g} / {usual.value:g} of the measured rate of bf16 ({rate.source})",
        )
        for precision, rate in sheet.tflops.items()
        if precision not in measured
    }


def _operation(kind: Kind, units: Units, number: Callable[[float, str], Number]) -> Operation:
    fixed, share = units.fixed_us.get(kind), units.activations.get(kind)
    return Operation(
        fixed_us=None if fixed is None else number(fixed, "what it took beside FLOPs and bytes, from the same fit"),
        activations=None if share is None else number(share, "from the same fit"),
    )


def _lasting(fit: LastingFit, number: Callable[[float, str], Number]) -> Lasting:
    steps = len(fit.step_ms["replicated"])
    run = f"{steps} steps in a row, {fit.run_ms:.0f} ms"
    means = f"means over the second half of {run}, over those of the steps within the first {COOL_US / 1e3:.0f} ms"
    when = "the first step nearer to those of the second half than to the first"
    return Lasting(
        compute={kind: number(longer, f"{means}; replicated") for kind, longer in fit.compute.items()},
        copies=None if fit.copies is None else number(fit.copies, f"{means}; dwdp over replicated, while pulls ran"),
        after_ms=number(fit.after_ms, f"{when}, of {run}; their length where steps took no longer"),
    )


def _sizes(samples: Samples, kind: Kind) -> str:
    return f"a line over {sum(one.kind == kind for one in samples.exchanges)} sizes"
