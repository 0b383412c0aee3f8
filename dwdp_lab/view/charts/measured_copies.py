"""What `bench copies` measured: rate over size, and what slices cost."""

from __future__ import annotations

from typing import Any

from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from dwdp_lab.timeline.words import figures, size
from dwdp_lab.view.charts.chart import Chart, Curve

WAY_COLOURS = {"plain": ORANGE, "batched": BLUE, "kernel": GREEN}


def copy_rates(record: dict[str, Any]) -> Chart:
    """Rate of one copy over its size, from a peer and within a rank; the record as `bench copies --json` writes it."""
    one = record["one_copy"]
    curves = [_curve("from a peer", one, "bytes", BLUE)]
    for way, local in record["within_a_rank"].items():
        words = "within a rank" if way == "plain" else "within a rank, by a kernel"
        curves.append(_curve(words, local, "bytes", GREY if way == "plain" else GREEN, dashed=True))
    best = max(one["gbps"])
    half = next(nbytes for nbytes, rate in zip(one["bytes"], one["gbps"], strict=True) if rate >= best / 2)
    return Chart(
        title="One copy: rate over size",
        x_title="size of the copy (MiB)",
        y_title="rate (GB/s)",
        curves=tuple(curves),
        log_x=True,
        log_y=True,
        words=f"From a peer at best {figures(best)} GB/s; half of it from {size(half)} on.",
        notes=worth(record),
    )


def slice_rates(record: dict[str, Any]) -> Chart:
    """Rate of a share that is copied in slices, over the slice's size, for each way of handing copies over."""
    curves: list[Curve] = []
    for one in record["sliced"]:
        words = {"plain": "one call per copy", "batched": "one call for all"}[one["way"]]
        if record["machine"] == "cuda":
            words += ", issued ahead" if one["ahead"] else ", issued meanwhile"
        curves.append(
            _curve(words, one, "slice_bytes", WAY_COLOURS[one["way"]], dashed=one["ahead"] and len(curves) > 0)
        )
    first = record["sliced"][0]
    rates = first["gbps"]
    total = size(first["total_bytes"])
    return Chart(
        title=f"{total} in slices: rate over the slice's size",
        x_title="size of a slice (MiB)",
        y_title="rate (GB/s)",
        curves=tuple(curves),
        log_x=True,
        words=f"One call per copy: {figures(rates[0])} GB/s in slices of {size(first['slice_bytes'][0])}, "
        f"{figures(rates[-1])} GB/s in slices of {size(first['slice_bytes'][-1])}.",
        notes=worth(record),
    )


def worth(record: dict[str, Any]) -> tuple[str, ...]:
    """What a record is worth: how it came about, on what, when."""
    where = f"{record['device']}, {record['ranks']} {'CPU' if record['machine'] == 'cpu' else 'GPU'} ranks"
    return (record["provenance"], where, record["date"][:10], *record["notes"])


def _curve(label: str, columns: dict[str, Any], x: str, colour: str, dashed: bool = False) -> Curve:
    return Curve(label, tuple(nbytes / 2**20 for nbytes in columns[x]), tuple(columns["gbps"]), colour, dashed)


COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, GREY)
"""For curves that have no meaning of their own."""
