"""How busy the links are over a run, several runs in one chart."""

from __future__ import annotations

from collections.abc import Mapping

from dwdp_lab.timeline.palette import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILLION
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.charts.chart import Chart, Curve
from dwdp_lab.view.timeline_view.link_load import link_load

COLOURS = (VERMILLION, ORANGE, BLUE, GREEN, PURPLE, GREY)


def load_chart(runs: Mapping[str, Timeline], link_gbps: float) -> Chart:
    """GB/s per rank (mean over ranks) over time in ms; `link_gbps`, drawn as a line, is what one rank can take in.

    A pull counts at its mean speed. At most six runs.
    """
    curves, words = [], []
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        load = link_load(run)
        x, y = [], []
        for place, (time_us, gbps) in enumerate(zip(load.time_us, load.gbps, strict=True)):
            if place:
                x.append(float(time_us) / 1e3)
                y.append(float(load.gbps[place - 1]))
            x.append(float(time_us) / 1e3)
            y.append(float(gbps))
        curves.append(Curve(name, tuple(x), tuple(y), colour, points=False))
        done_us = [max(span.end_us for span in run.spans if span.rank == rank) for rank in range(run.ranks)]
        words.append(f"{name} {sum(done_us) / len(done_us) / 1e3:.1f} ms")
    return Chart(
        title="Load of the links",
        x_title="time (ms)",
        y_title="GB/s per rank, mean over ranks",
        curves=tuple(curves),
        limits=((f"link: {link_gbps:,.0f} GB/s", link_gbps),),
        words=f"Ranks are done after (mean): {', '.join(words)}.",
        notes=("simulated",),
    )
