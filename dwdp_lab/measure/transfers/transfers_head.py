"""The head of a record of transfers: where, when, with what and how it was measured, and what it is worth."""

from __future__ import annotations

from typing import Any

from dwdp_lab.execute.run_result import host_environment
from dwdp_lab.measure.transfers.transfers_measured import Measured, Spread, spread


def head(title: str, measured: Measured, command: str) -> dict[str, Any]:
    """What stands at the beginning of a record: where, when, with what and how it was measured."""
    machine, plan = measured.machine, measured.plan
    about = machine.abouts[0]
    host = host_environment({})
    places = len({one.place for one in machine.abouts})
    device = host["cpu"] if machine.name == "cpu" else f"{places} x {about.device}"
    samples = [sample for report in measured.reports for sample in report.samples]
    return {
        "title": title,
        "provenance": "measured",
        "machine": machine.name,
        "ranks": machine.ranks,
        "device": device,
        "driver": about.driver,
        "versions": {"python": host["python"], **about.versions},
        "date": host["date"],
        "command": command,
        "repeats": plan.repeats,
        "seed": plan.seed,
        "notes": _notes(measured, places, host),
        "checked_bytes": sum(report.checked_bytes for report in measured.reports),
        "page_faults": sum(sample.page_faults for sample in samples),
        "clock_error_us": max(report.clock_error_us for report in measured.reports),
        "start_late_us": _late(measured)._asdict(),
        "environment": {name: host[name] for name in ("cpu", "cpu_count", "cpus_allowed", "system")},
    }


def _late(measured: Measured) -> Spread:
    """How long after the agreed moment copies that were to begin at it began."""
    together = {number for number, case in enumerate(measured.plan.cases) if not case.random_phases}
    return spread(
        [one.start_us for report in measured.reports for one in report.samples if one.case in together] or [0.0]
    )


def _notes(measured: Measured, places: int, host: dict[str, Any]) -> list[str]:
    machine, notes = measured.machine, []
    if machine.name == "cpu":
        notes.append("copies by the CPU within one machine's memory: says nothing about links between GPUs")
        if machine.ranks > host["cpus_allowed"]:
            notes.append(f"crowded: {machine.ranks} ranks copy on {host['cpus_allowed']} CPU cores")
    elif places < machine.ranks:
        notes.append(f"crowded: {machine.ranks} ranks share {places} GPUs")
        notes.append("copies within a GPU are made by its processors, not by copy engines")
    if machine.ranks + machine.load > host["cpus_allowed"]:
        notes.append(
            f"crowded: {machine.ranks} ranks beside a load average of {machine.load:.1f} before the start, on "
            f"{host['cpus_allowed']} CPU cores"
        )
    if machine.name == "cuda":
        error_us = max(report.clock_error_us for report in measured.reports)
        notes.append(f"the ranks' clocks agree within {2 * error_us:.0f} us")
    if machine.name == "cuda" and (late := _issued_late(measured)):
        notes.append(
            f"in {100 * late:.3g}% of the turns the host was still issuing when the copies began: it may be the limit"
        )
    notes += dict.fromkeys(note for report in measured.reports for note in report.notes)
    faults = sum(sample.page_faults for report in measured.reports for sample in report.samples)
    if 1000 * faults > sum(report.checked_bytes for report in measured.reports) / 4096:
        notes.append(f"{faults} page faults happened while copying, and their time counts as the copies'")
    return notes


def _issued_late(measured: Measured) -> float:
    """Share of the samples whose copies were to be issued ahead of the start, and were not."""
    ahead = {number for number, case in enumerate(measured.plan.cases) if case.ahead}
    late = [one.issued_us > one.start_us for report in measured.reports for one in report.samples if one.case in ahead]
    return sum(late) / max(1, len(late))
