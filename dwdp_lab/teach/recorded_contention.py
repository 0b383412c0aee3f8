"""What `bench contention` has measured on three GPUs or more and data/measured/ keeps; or that there is none yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, get_args

from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.scenario.strategy import PeerOrder
from dwdp_lab.teach.shown import Gallery, table
from dwdp_lab.timeline.words import size
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.heat_map import HeatMap
from dwdp_lab.view.charts.measured_contention import level_shares_chart, pull_rates, reader_rates

NOTHING = """\
Nothing is recorded yet: data/measured/ has no measurement of several readers on one source, which takes three GPUs.
Where there are: dwdp-lab bench contention --machine cuda --ranks 4 --json data/measured/contention.json
Then run this cell again."""
SIMULATED = {"slices": "1 slice in flight", "stages": "any number in flight"}


def contention_records(files: Mapping[str, Path] | None = None) -> dict[str, dict[str, Any]]:
    """The records of `bench contention` on three or more GPU ranks by name, those of most ranks first.

    `files`: name to path; data/measured/ unless told otherwise. What comes from a file is `recorded`, never live.
    """
    found = {}
    for name, path in (shipped("measured", ".json") if files is None else files).items():
        record = json.loads(path.read_text(encoding="utf-8"))
        if {"readers", "pulls", "levels"} <= set(record) and record["machine"] == "cuda" and record["ranks"] > 2:
            found[name] = {**record, "provenance": "recorded"}
    return dict(sorted(found.items(), key=lambda item: -item[1]["ranks"]))


def recorded_contention(files: Mapping[str, Path] | None = None) -> Gallery:
    """All of them in words and pictures, beside the simulator; without any, that nothing is recorded."""
    records = contention_records(files)
    if not records:
        return Gallery(NOTHING)
    pictures: list[Chart | HeatMap] = []
    for record in records.values():
        pictures += [reader_rates(record), pull_rates(record, "together"), pull_rates(record, "random")]
        levels = _drawn_levels(record)
        if levels is not None:
            pictures.append(level_shares_chart(record, levels["order"], levels["slice_bytes"], "random"))
    return Gallery("\n\n".join(map(_words, records.values())), tuple(pictures))


def _words(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{library} {version}" for library, version in record["versions"].items())
    head = f"recorded {record['date'][:10]} on {record['device']}, {record['ranks']} ranks "
    head += f"(driver {record['driver']}, {versions}): {record['command']}"
    notes = "".join(f"\nmind: {note}" for note in record["notes"])
    return "\n\n".join((head + notes, _readers(record), _errors(record), _levels(record)))


def _readers(record: dict[str, Any]) -> str:
    whole = [one for one in record["readers"] if one["slice_bytes"] == record["readers"][0]["slice_bytes"]]
    rows = [
        (
            one["readers"],
            f"{one['gbps']:.0f}",
            f"{min(one['gbps_each']):.0f} to {max(one['gbps_each']):.0f}",
            f"{one['fairness']:.3f}",
        )
        for one in whole
    ]
    return table((f"readers of one source, {_cut(whole[0])}", "GB/s together", "GB/s each", "fairness"), rows)


def _errors(record: dict[str, Any]) -> str:
    """How far the simulator is from what was measured, over all orders and slice sizes."""
    rows = []
    for phases, when in (("together", "all start at once"), ("random", "at random phases")):
        for name, words in SIMULATED.items():
            missed = [
                (100 * (one["simulated_gbps"][name] / one["gbps"] - 1), f"{one['order']}, {_cut(one)}")
                for one in record["pulls"]
                if one["phases"] == phases and name in one["simulated_gbps"]
            ]
            worst = max(missed, key=lambda error: abs(error[0]))
            middle = median(abs(error) for error, _ in missed)
            rows.append((f"{when}, {words}", f"{middle:.0f} %", f"{worst[0]:+z.0f} %", worst[1]))
    return table(("simulated rate of a pull against the measured one", "median error", "largest", "it is of"), rows)


def _levels(record: dict[str, Any]) -> str:
    rows = [
        (f"{one['order']}, {_cut(one)}", _mean(one["measured"]), _mean(one["simulated"]))
        for one in record["levels"]
        if one["phases"] == "random" and one["measured"]
    ]
    forms = record["closed_forms"]
    chance = f"by chance: {_mean(forms['binomial'])} as chosen, {_mean(forms['sharing'])} by time"
    head = ("mean readers of a source, at random phases", "measured", "simulated")
    return f"{table(head, rows or [('never did all ranks pull at once', '-', '-')])}\n{chance}"


def _drawn_levels(record: dict[str, Any]) -> dict[str, Any] | None:
    """The case to draw: what the closed forms describe if it was measured, else the first that was."""
    measured = [one for one in record["levels"] if one["phases"] == "random" and one["measured"]]
    drawn_anew = [one for one in measured if one["order"] not in get_args(PeerOrder)]
    return next(iter([*drawn_anew, *measured]), None)


def _cut(one: dict[str, Any]) -> str:
    return "whole shares" if one["slice_bytes"] is None else f"slices of {size(one['slice_bytes'])}"


def _mean(shares: list[float] | None) -> str:
    """The mean level; a dash where no repeat had all ranks pulling at once."""
    return "-" if shares is None else f"{sum(level * share for level, share in enumerate(shares, 1)):.2f}"
