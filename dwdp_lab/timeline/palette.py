"""Colours and words for the kinds of spans, the same in every picture.

The colours are those of Okabe and Ito, Color Universal Design (2008), which people with any common colour
blindness can tell apart, and one grey. Kinds that play the same part in different strategies share a colour.
"""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.timeline.span import Timeline

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#999999"
INK = "#1F2933"
"""Text, axes and hatching."""


class Style(NamedTuple):
    """How a kind is drawn. `hatched` means stripes of the colour on white: time in which nothing is done."""

    colour: str
    label: str
    hatched: bool = False


KIND_STYLES: dict[str, Style] = {
    "attention": Style(BLUE, "attention"),
    "dense": Style(SKY, "dense layer"),
    "route": Style(GREY, "route"),
    "merge": Style(YELLOW, "merge"),
    "experts": Style(GREEN, "experts"),
    "pull": Style(ORANGE, "pull weights"),
    "gather_weights": Style(ORANGE, "gather weights"),
    "dispatch": Style(PURPLE, "dispatch tokens"),
    "combine": Style(PURPLE, "combine tokens"),
    "gather_tokens": Style(PURPLE, "gather tokens"),
    "reduce_tokens": Style(PURPLE, "reduce tokens"),
    "all_reduce_attention": Style(PURPLE, "all-reduce attention"),
    "all_reduce_mlp": Style(PURPLE, "all-reduce MLP"),
    "send": Style(PURPLE, "send"),
    "recv": Style(PURPLE, "receive"),
    "wait_peers": Style(INK, "wait on peers", hatched=True),
}
"""In the order of the legend."""

EXPOSED = Style(VERMILLION, "exposed copy")
"""Not a kind but a state: weights are late, and the compute lane stands still."""

STRATEGY_NAMES = {"dep": "DEP", "dwdp": "DWDP", "weight_gather": "weight gather"}
"""How pictures and sentences write the strategies; others go by their own name."""

LANE_ORDER = ("compute", "copy", "comm")


def style(kind: str) -> Style:
    """The style of a kind; one the palette does not know is grey under its own name."""
    return KIND_STYLES.get(kind) or Style(GREY, kind.replace("_", " "))


def lanes_in_use(timeline: Timeline) -> tuple[str, ...]:
    """The lanes on which any rank has a span, in the order of rows."""
    used = {span.lane for span in timeline.spans}
    return tuple(sorted(used, key=lambda lane: (LANE_ORDER.index(lane) if lane in LANE_ORDER else 9, lane)))


def strategy_name(timeline: Timeline) -> str:
    """The strategy as pictures and sentences write it."""
    return STRATEGY_NAMES.get(timeline.strategy, timeline.strategy)


def heading(timeline: Timeline) -> str:
    """Strategy, provenance and machine in one line, such as `DWDP: simulated (h100, virtual time)`."""
    machine = {"sim": "virtual time", "cpu": "CPU ranks", "cuda": "GPU ranks"}[timeline.machine]
    device = timeline.environment.get("hardware") or timeline.environment.get("device")
    named = f"{device}, {machine}" if isinstance(device, str) else machine
    return f"{strategy_name(timeline)}: {timeline.provenance} ({named})"
